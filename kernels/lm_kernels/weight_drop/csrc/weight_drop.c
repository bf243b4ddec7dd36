/* Weight dropout by Philox-4x32-10 (Salmon et al. 2011); the instruction set is selected at run time. */
#include "weight_drop.h"

#include <string.h>

/* A group: 32 counters with 4 words each; word w of counter c belongs to element 32 w + c. PIECE: elements that a
 * thread takes at a time. */
#define LANES 32
#define GROUP (4 * LANES)
#define PIECE (1 << 14)

#define ROUNDS 10
#define MULTIPLIER_0 0xD2511F53u
#define MULTIPLIER_1 0xCD9E8D57u
#define KEY_STEP_0 0x9E3779B9u
#define KEY_STEP_1 0xBB67AE85u
#define LOW(x) ((x) & 0xffffffffu)

/* Words are held in 64 bits each, so that the halves of a product stay in their SIMD lane. */
static ALWAYS_INLINE void draw(uint32_t *words, uint64_t counter, uint64_t seed) {
    INDEPENDENT
    for (int lane = 0; lane < LANES; lane++) {
        uint64_t x0 = LOW(counter + lane), x1 = (counter + lane) >> 32, x2 = 0, x3 = 0;
        uint32_t key0 = (uint32_t)seed, key1 = (uint32_t)(seed >> 32);
#if defined(__clang__)
#pragma clang loop unroll(full)
#else
#pragma GCC unroll 10
#endif
        for (int round = 0; round < ROUNDS; round++) {
            const uint64_t product0 = x0 * MULTIPLIER_0, product1 = x2 * MULTIPLIER_1;
            x0 = (product1 >> 32) ^ x1 ^ key0;
            x1 = LOW(product1);
            x2 = (product0 >> 32) ^ x3 ^ key1;
            x3 = LOW(product0);
            key0 += KEY_STEP_0;
            key1 += KEY_STEP_1;
        }
        words[lane] = (uint32_t)x0;
        words[LANES + lane] = (uint32_t)x1;
        words[2 * LANES + lane] = (uint32_t)x2;
        words[3 * LANES + lane] = (uint32_t)x3;
    }
}

/* One body per precision. A last group that is short is processed in a padded copy. */
#define DEFINE_PIECE(REAL)                                                                                   \
    static ALWAYS_INLINE void group_##REAL(const struct weight_drop_call *call, int64_t first, const REAL *from, \
                                           REAL *to) {                                                       \
        ALIGNED uint32_t words[GROUP];                                                                       \
        const REAL scale = (REAL)call->scale;                                                                \
        const uint32_t drop_below = call->drop_below;                                                        \
        draw(words, (uint64_t)first / 4, call->seed);                                                        \
        INDEPENDENT                                                                                          \
        for (int j = 0; j < GROUP; j++) {                                                                    \
            const REAL scaled = from[j] * scale;                                                             \
            to[j] = words[j] < drop_below ? 0 : scaled;                                                      \
        }                                                                                                    \
    }                                                                                                        \
    static ALWAYS_INLINE void piece_##REAL(const struct weight_drop_call *call, int64_t first, int64_t stop) {   \
        const REAL *from = call->from;                                                                       \
        REAL *to = call->to;                                                                                 \
        for (; first + GROUP <= stop; first += GROUP) group_##REAL(call, first, from + first, to + first);   \
        if (first < stop) {                                                                                  \
            ALIGNED REAL padded[GROUP] = {0}, dropped[GROUP];                                                \
            memcpy(padded, from + first, (stop - first) * sizeof(REAL));                                     \
            group_##REAL(call, first, padded, dropped);                                                      \
            memcpy(to + first, dropped, (stop - first) * sizeof(REAL));                                      \
        }                                                                                                    \
    }

DEFINE_PIECE(float)
DEFINE_PIECE(double)

typedef void (*work_on)(const struct weight_drop_call *, int64_t first, int64_t stop);

#define COMPILED_FOR(level, ...)                                                                             \
    __VA_ARGS__ static void level##_f32(const struct weight_drop_call *call, int64_t first, int64_t stop) {  \
        piece_float(call, first, stop);                                                                      \
    }                                                                                                        \
    __VA_ARGS__ static void level##_f64(const struct weight_drop_call *call, int64_t first, int64_t stop) {  \
        piece_double(call, first, stop);                                                                     \
    }

COMPILED_FOR(plain, )
#if defined(__x86_64__)
COMPILED_FOR(avx2, FOR_AVX2)
COMPILED_FOR(avx512, FOR_AVX512)
static const work_on LEVELS[][2] = {{plain_f32, plain_f64}, {avx2_f32, avx2_f64}, {avx512_f32, avx512_f64}};
#else
static const work_on LEVELS[][2] = {{plain_f32, plain_f64}};
#endif

void weight_drop_work(void *argument) {
    struct weight_drop_call *call = argument;
    const work_on function = LEVELS[call->level][call->double_precision != 0];
    for (;;) {
        const int64_t first = __atomic_fetch_add(&call->next, 1, __ATOMIC_RELAXED) * PIECE;
        if (first >= call->elements) break;
        function(call, first, first + PIECE < call->elements ? first + PIECE : call->elements);
    }
}
