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

typedef void (*work_on)(const struct lookup_call *, int64_t);

#define COMPILED_FOR(level, ...)                                                                             \
    __VA_ARGS__ static void level##_f32(const struct lookup_call *call, int64_t tile) {                      \
        tile_float(call, tile);                                                                              \
    }                                                                                                        \
    __VA_ARGS__ static void level##_f64(const struct lookup_call *call, int64_t tile) {                      \
        tile_double(call, tile);                                                                             \
    }                                                                                                        \
    __VA_ARGS__ static void level##_bf16(const struct lookup_call *call, int64_t tile) {                     \
        tile_uint16_t(call, tile);                                                                           \
    }

COMPILED_FOR(plain, )
#if defined(__x86_64__)
COMPILED_FOR(avx2, FOR_AVX2)
COMPILED_FOR(avx512, FOR_AVX512)
static const work_on LEVELS[][3] = {
    {plain_f32, plain_f64, plain_bf16}, {avx2_f32, avx2_f64, avx2_bf16}, {avx512_f32, avx512_f64, avx512_bf16}};
#else
static const work_on LEVELS[][3] = {{plain_f32, plain_f64, plain_bf16}};
#endif

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
