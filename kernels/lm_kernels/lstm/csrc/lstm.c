/* Exports the LSTM; without a compiler that knows the instructions, or on other machines, it is unavailable. */
#include "lstm.h"

#if defined(__x86_64__) && (defined(__clang__) ? __clang_major__ >= 9 : __GNUC__ >= 10)

#include <cpuid.h>
#include <immintrin.h>
#include <sched.h>
#include <string.h>

#define FOR_BF16 __attribute__((target("avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")))

#include "product.h"
#include "pack.h"
#include "cell.h"
#include "float32.h"

/* Turns of a waiting thread before it lets another one have its core. */
#define PATIENCE 2000

int32_t lstm_available(void) {
    uint32_t eax, ebx, ecx, edx;
    return kernels_levels() == 3 && __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) && (eax >> 5 & 1);
}

static void wait_for(const int64_t *done, int64_t tiles) {
    for (int turn = 0; __atomic_load_n(done, __ATOMIC_ACQUIRE) < tiles; turn++) {
        if (turn < PATIENCE)
            _mm_pause();
        else
            sched_yield();
    }
}

/* Tile of a round. Each round goes back over the tiles of the one before, so that their weights are still cached. */
static int64_t tile_of(int64_t index, int64_t tiles) {
    return index / tiles & 1 ? tiles - 1 - index % tiles : index % tiles;
}

void lstm_work(void *argument) {
    struct lstm_call *call = argument;
    const int64_t tiles = call->backward ? BACKWARD_TILES(call->hidden) : FORWARD_TILES(call->hidden);
    /* The gradient of h0 takes one more round. */
    const int64_t rounds = call->steps + (call->backward != 0);
    if (!tiles) return;
    for (;;) {
        const int64_t index = __atomic_fetch_add(&call->next, 1, __ATOMIC_RELAXED), round = index / tiles;
        if (round >= rounds) return;
        wait_for(&call->done, round * tiles);
        if (call->backward)
            backward_tile(call, call->steps - 1 - round, tile_of(index, tiles));
        else
            forward_tile(call, round, tile_of(index, tiles));
        __atomic_fetch_add(&call->done, 1, __ATOMIC_RELEASE);
    }
}

void lstm_float_work(void *argument) {
    struct lstm_float_call *call = argument;
    const int64_t tiles = FORWARD_TILES(call->hidden);
    if (!tiles) return;
    for (;;) {
        const int64_t index = __atomic_fetch_add(&call->next, 1, __ATOMIC_RELAXED), round = index / tiles;
        if (round > call->steps) return;
        wait_for(&call->done, round * tiles);
        if (round)
            float_tile(call, round - 1, tile_of(index, tiles));
        else
            pack_float(call, index);
        __atomic_fetch_add(&call->done, 1, __ATOMIC_RELEASE);
    }
}

int64_t lstm_float_packed_size(int64_t hidden) {
    return FORWARD_TILES(hidden) * WIDTH * hidden;
}

void lstm_pack_work(void *argument) {
    struct lstm_pack *pack = argument;
    const int64_t tiles = pack->backward ? BACKWARD_TILES(pack->hidden) : FORWARD_TILES(pack->hidden);
    for (;;) {
        const int64_t tile = __atomic_fetch_add(&pack->next, 1, __ATOMIC_RELAXED);
        if (tile >= tiles) return;
        if (pack->backward)
            pack_backward(pack, tile);
        else
            pack_forward(pack, tile);
    }
}

int64_t lstm_packed_size(int64_t hidden, int32_t backward) {
    if (backward) return BACKWARD_TILES(hidden) * BACKWARD_SIZE(hidden);
    return FORWARD_TILES(hidden) * FORWARD_SIZE(hidden);
}

#else

int32_t lstm_available(void) {
    return 0;
}

int64_t lstm_packed_size(int64_t hidden, int32_t backward) {
    (void)hidden, (void)backward;
    return 0;
}

void lstm_pack_work(void *pack) {
    (void)pack;
}

void lstm_work(void *call) {
    (void)call;
}

int64_t lstm_float_packed_size(int64_t hidden) {
    (void)hidden;
    return 0;
}

void lstm_float_work(void *call) {
    (void)call;
}

#endif
