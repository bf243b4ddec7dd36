/* Sums of rows by number, compiled for each precision and instruction set. */
#include "lookup.h"

#include <string.h>

/* Rows that are fetched ahead: consecutive rows of a tile are a page or more apart, where the hardware does not. */
#define AHEAD 8

static ALWAYS_INLINE float widened(uint16_t value) {
    const uint32_t bits = (uint32_t)value << 16;
    float real;
    memcpy(&real, &bits, sizeof real);
    return real;
}

#define AS_IT_IS(value) (value)

/* Adds a row to one of the tile's sums. A constant width lets the compiler unroll the loop. */
#define ADD(stored, real, widen)                                                                             \
    static ALWAYS_INLINE void add_##stored(real *sum, const stored *row, int width) {                        \
        INDEPENDENT                                                                                          \
        for (int j = 0; j < width; j++) sum[j] += widen(row[j]);                                             \
    }                                                                                                        \
    static ALWAYS_INLINE void tile_##stored(const struct lookup_call *call, int64_t tile) {                  \
        const int64_t first = tile * LOOKUP_TILE, left = call->columns - first;                              \
        const int width = (int)(left < LOOKUP_TILE ? left : LOOKUP_TILE);                                    \
        const stored *row = (const stored *)call->values + first;                                            \
        real *const sums = (real *)call->sums + tile * call->table * LOOKUP_TILE;                            \
        for (int64_t n = 0; n < call->rows; n++, row += call->columns) {                                     \
            for (int line = 0; line < LOOKUP_TILE * (int)sizeof(stored); line += 64)                         \
                __builtin_prefetch((const char *)(row + AHEAD * call->columns) + line);                      \
            for (int64_t k = 0; k < call->each; k++) {                                                       \
                real *const sum = sums + call->ids[n * call->each + k] * LOOKUP_TILE;                        \
                if (width == LOOKUP_TILE)                                                                    \
                    add_##stored(sum, row, LOOKUP_TILE);                                                     \
                else                                                                                         \
                    add_##stored(sum, row, width);                                                           \
            }                                                                                                \
        }                                                                                                    \
    }

ADD(float, float, AS_IT_IS)
ADD(double, double, AS_IT_IS)
ADD(uint16_t, float, widened)

#define CALL lookup_call
#define TILE int64_t
#define TILE_F32 tile_float
#define TILE_F64 tile_double
#define TILE_BF16 tile_uint16_t
#include "levels.h"

void lookup_work(void *argument) {
    struct lookup_call *call = argument;
    const work_on function = LEVELS[call->level][call->precision];
    const int64_t tiles = (call->columns + LOOKUP_TILE - 1) / LOOKUP_TILE;
    for (;;) {
        const int64_t tile = __atomic_fetch_add(&call->next, 1, __ATOMIC_RELAXED);
        if (tile >= tiles) return;
        function(call, tile);
    }
}
