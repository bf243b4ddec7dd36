/* Exports the LSTM; without a compiler that knows the instructions, or on other machines, it is unavailable. */
#include "lstm.h"

#if defined(__x86_64__) && (defined(__clang__) ? __clang_major__ >= 9 : __GNUC__ >= 10)

#include <cpuid.h>
#include <immintrin.h>
#include <sched.h>

#define FOR_BF16 __attribute__((target("avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")))

#include "vectors.h"

/* Most vectors of a tile, and most of its columns */
#define VECTORS 4
#define WIDTH (LANES * VECTORS)
/* Most rows of a block: its sums, a vector of weights per column and a word of the inputs fill the 32 registers but three
 * with four vectors of columns, but four with three. */
#define ROWS 8
#define ROWS_OF_FOUR 6
/* Words of one pass over the rows: 16 KiB of weights, so that those of the next pass, which are prefetched, fit into the
 * first-level cache as well. */
#define PASS 64
/* Rows whose sums a thread holds at once: 16 KiB. */
#define CHUNK 64

/* Vectors of the hidden units, and words of 32 bits of a row of the products, with `group` values in a word */
#define COLUMNS(hidden) (((hidden) + LANES - 1) / LANES)
#define FORWARD_WORDS(hidden, group) (((hidden) + (group) - 1) / (group))
#define BACKWARD_WORDS(hidden, group) (4 * (hidden) / (group))

#include "later.h"

#include "float32.h"
#include "product.h"
#include "pack.h"
#include "cell.h"
#undef STORED
#undef NAME
#undef GROUP

#include "bfloat16.h"
#include "product.h"
#include "pack.h"
#include "cell.h"

#include "queue.h"

int32_t lstm_available(void) {
    uint32_t eax, ebx, ecx, edx;
    return kernels_levels() == 3 && __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) && (eax >> 5 & 1);
}

int64_t lstm_packed_size(int64_t hidden, int32_t backward, int32_t precision) {
    const int64_t group = precision == LSTM_BF16 ? 2 : 1;
    if (backward) return COLUMNS(hidden) * LANES * BACKWARD_WORDS(hidden, group);
    return COLUMNS(hidden) * WIDTH * FORWARD_WORDS(hidden, group);
}

/* Backward, tiles are of any number of vectors up to VECTORS: as few as there can be, but as many for each thread. */
static int64_t tiles_of(const struct lstm_call *call) {
    const int64_t columns = COLUMNS(call->hidden), fewest = (columns + VECTORS - 1) / VECTORS;
    const int64_t even = (fewest + call->threads - 1) / call->threads * call->threads;
    return call->backward && even < columns ? even : columns;
}

static void work_on(const struct lstm_call *call, int64_t round, int64_t tile, int64_t tiles) {
    const int bf16 = call->precision == LSTM_BF16;
    if (call->backward) {
        const int64_t columns = COLUMNS(call->hidden), first = tile * columns / tiles;
        const int vectors = (int)((tile + 1) * columns / tiles - first);
        if (round == 0)
            (bf16 ? pack_backward_bf16 : pack_backward_f32)(call, first, vectors);
        else
            (bf16 ? backward_tile_bf16 : backward_tile_f32)(call, call->steps - round, first, vectors);
    } else if (round == 0) {
        (bf16 ? pack_forward_bf16 : pack_forward_f32)(call, tile);
    } else {
        (bf16 ? forward_tile_bf16 : forward_tile_f32)(call, round - 1, tile);
    }
}

void lstm_work(void *argument) {
    struct lstm_call *call = argument;
    const int64_t tiles = tiles_of(call), me = __atomic_fetch_add(&call->joined, 1, __ATOMIC_RELAXED);
    /* The first round packs; the gradient of h0 takes one more. */
    const int64_t rounds = 1 + call->steps + (call->backward != 0);
    if (!tiles) return;
    for (int64_t round = 0; round < rounds; round++) {
        int64_t done = 0;
        wait_for(&call->done, round * tiles);
        for (int64_t other = 0; other < call->threads; other++) {
            int64_t tile;
            while ((tile = take(call, round, tiles, (me + other) % call->threads, other == 0)) >= 0) {
                work_on(call, round, tile, tiles);
                done++;
            }
        }
        __atomic_fetch_add(&call->done, done, __ATOMIC_RELEASE);
    }
}

#else

int32_t lstm_available(void) {
    return 0;
}

int64_t lstm_packed_size(int64_t hidden, int32_t backward, int32_t precision) {
    (void)hidden, (void)backward, (void)precision;
    return 0;
}

void lstm_work(void *call) {
    (void)call;
}

#endif
