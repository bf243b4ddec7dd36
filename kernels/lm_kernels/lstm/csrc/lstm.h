/* An LSTM layer over a window on the CPU. Products are of bfloat16 or of float32 values, and are summed in float32; cells
 * and gates are float32.
 *
 * G = 4 * hidden, gates in the order i, f, g, o. All arrays are contiguous. A pointer to void is to float, or with
 * LSTM_BF16 to bfloat16, which is uint16_t here.
 */
#ifndef LSTM_H
#define LSTM_H

#include "compiled.h"

/* A pass over a window, cut into rounds of tiles. The first round packs the weight, each other one is a step; a tile is a
 * range of hidden units. A tile waits until all tiles of the round before are done. */
struct lstm_call {
    int64_t steps, streams, hidden;
    int64_t row;          /* words of 32 bits of a row of `operand`: at least the gates or the hidden units */
    int64_t threads;      /* number of threads that share the pass; changes no bit */
    int64_t joined, done; /* threads that came, tiles that are done: both 0 at the start */
    int64_t *queues;      /* (threads, LSTM_QUEUE), zeros at the start: the tiles of each thread */
    int32_t backward;
    int32_t precision;   /* LSTM_F32 or LSTM_BF16 */
    const float *weight; /* (G, H), rounded to bfloat16 while it is packed */
    uint32_t *packed;    /* lstm_packed_size() words, at a multiple of 64 bytes */
    /* Left operands of the product of a step and of the next one, (2, B, row). Forward: h, of which the first half
     * holds h0; backward: gradients of the gates. Elements beyond a row's values are 0. */
    uint32_t *operand;
    float *gates; /* (T, B, G) after the activations; forward: written, or null if no backward pass follows */
    float *cells; /* (T, B, H); forward: written, without gates only the last one, (B, H) */
    const float *c0;
    /* forward */
    const void *inputs;     /* the product of the inputs, (T, B, G), or with symbols a table of them, (V, G) */
    const int64_t *symbols; /* rows of the table, (T, B), or null */
    const float *bias;      /* (G): the sum of both biases */
    void *h;                /* (T, B, H), written */
    /* backward */
    const void *dh;     /* gradient of h, or null for zeros */
    const float *dlast; /* gradient of the last h, or null for zeros */
    void *dgates;       /* (T, B, G), written */
    float *dcell;       /* (B, H): gradient of the last cell, overwritten by that of c0 */
    float *dh0, *dbias; /* (B, H), written; (G), zeros at the start */
};

enum { LSTM_F32, LSTM_BF16 };

/* Numbers of a thread's queue: a cache line, so that a thread that takes its own tiles waits for no other one. */
#define LSTM_QUEUE 8

/* Whether this library and this machine have the bfloat16 products of AVX-512, which the functions below need. */
KERNELS_API int32_t lstm_available(void);

/* Words of 32 bits of the packed weight of a layer. */
KERNELS_API int64_t lstm_packed_size(int64_t hidden, int32_t backward, int32_t precision);

/* Process tiles of `call`, a struct lstm_call, until none is left. Every thread calls it once. */
KERNELS_API void lstm_work(void *call);

#endif
