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

#define CALL fo_pool_call
#define TILE struct tile
#define TILE_F32 work_on_f32
#define TILE_F64 work_on_f64
#define TILE_BF16 work_on_bf16
#include "levels.h"

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
