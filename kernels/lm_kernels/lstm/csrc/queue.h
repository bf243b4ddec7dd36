/* Which thread computes which tile. Each thread has a range of tiles, the same in each round, so that it finds their
 * weights in its own cache; a thread that is done with its range takes tiles of the other ones. */

/* Turns of a waiting thread before it lets another one have its core. */
#define PATIENCE 2000

static void wait_for(const int64_t *done, int64_t tiles) {
    for (int turn = 0; __atomic_load_n(done, __ATOMIC_ACQUIRE) < tiles; turn++) {
        if (turn < PATIENCE)
            _mm_pause();
        else
            sched_yield();
    }
}

/* A tile of the range of `owner` that nobody has taken in this round, or -1. Each round goes back over the tiles of the one
 * before, so that their weights are still cached; the other threads begin with the tiles that the owner comes to last.
 *
 * The number of a queue is that of its last round, of tiles taken by the owner, and of tiles taken by the others.
 */
static int64_t take(struct lstm_call *call, int64_t round, int64_t tiles, int64_t owner, int own) {
    const int64_t first = owner * tiles / call->threads, size = (owner + 1) * tiles / call->threads - first;
    int64_t *const queue = call->queues + owner * LSTM_QUEUE;
    int64_t before = __atomic_load_n(queue, __ATOMIC_RELAXED);
    for (;;) {
        if (before >> 32 > round) return -1;
        const int64_t now = before >> 32 == round ? before : round << 32;
        const int64_t mine = now >> 16 & 0xffff, others = now & 0xffff;
        if (mine + others == size) return -1;
        if (__atomic_compare_exchange_n(queue, &before, now + (own ? 1 << 16 : 1), 0, __ATOMIC_RELAXED,
                                        __ATOMIC_RELAXED)) {
            const int64_t place = own ? mine : size - 1 - others;
            return first + (round & 1 ? size - 1 - place : place);
        }
    }
}
