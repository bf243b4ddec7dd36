/* Compiles the loops of scan.h for each precision and instruction set, and selects among them at run time. */
#include "fo_pool.h"

#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#define CACHE_LINE 64
#define BLOCK_BYTES 256

struct tile {
    int64_t stream, first;
    int width;
};

/* Copy the result of a block to memory, with non-temporal stores if `stream` is set. */
static ALWAYS_INLINE void put(void *to, const void *from, int64_t bytes, int stream) {
#if defined(__x86_64__)
    if (stream) {
        for (int64_t at = 0; at < bytes; at += 16)
            _mm_stream_si128((__m128i *)((char *)to + at), _mm_load_si128((const __m128i *)((const char *)from + at)));
        return;
    }
#endif
    (void)stream;
    /* A constant size lets the compiler inline the copy. */
    if (bytes == BLOCK_BYTES)
        memcpy(to, from, BLOCK_BYTES);
    else if (bytes == BLOCK_BYTES / 2)
        memcpy(to, from, BLOCK_BYTES / 2);
    else
        memcpy(to, from, bytes);
}

#include "float32.h"
#include "gates.h"
#include "stored.h"
#include "scan.h"
#include "forget.h"

#include "bfloat16.h"
#include "gates.h"
#include "stored.h"
#include "scan.h"
#include "forget.h"

#include "float64.h"
#include "gates.h"
#include "stored.h"
#include "scan.h"
#include "forget.h"

typedef void (*work_on)(const struct fo_pool_call *, struct tile);

#define COMPILED_FOR(level, ...)                                                                             \
    __VA_ARGS__ static void level##_f32(const struct fo_pool_call *call, struct tile tile) {                 \
        work_on_f32(call, tile);                                                                             \
    }                                                                                                        \
    __VA_ARGS__ static void level##_f64(const struct fo_pool_call *call, struct tile tile) {                 \
        work_on_f64(call, tile);                                                                             \
    }                                                                                                        \
    __VA_ARGS__ static void level##_bf16(const struct fo_pool_call *call, struct tile tile) {                \
        work_on_bf16(call, tile);                                                                            \
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

void fo_pool_work(void *argument) {
    struct fo_pool_call *call = argument;
    const work_on function = LEVELS[call->level][call->precision];
    const int64_t per_stream = (call->hidden + call->tile - 1) / call->tile;
    for (;;) {
        const int64_t index = __atomic_fetch_add(&call->next, 1, __ATOMIC_RELAXED);
        if (index >= call->tiles) break;
        struct tile tile = {.stream = index / per_stream, .first = index % per_stream * call->tile};
        const int64_t rest = call->hidden - tile.first;
        tile.width = (int)(rest < call->tile ? rest : call->tile);
        function(call, tile);
    }
#if defined(__x86_64__)
    /* Non-temporal stores are weakly ordered: make them visible before the thread reports that it is done. */
    if (call->stream) _mm_sfence();
#endif
}
