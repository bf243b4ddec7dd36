/* An LSTM layer over a window on the CPU: products in bfloat16, accumulated in float32; cells and gates in float32.
 *
 * G = 4 * hidden, gates in the order i, f, g, o. All arrays are contiguous. bfloat16 values are uint16_t here.
 */
#ifndef LSTM_H
#define LSTM_H

#include "compiled.h"

/* A pass over a window, cut into rounds of tiles: a round is a step, a tile a range of hidden units. A tile waits until
 * all tiles of the round before are done. Any number of threads may share a pass. */
struct lstm_call {
    int64_t steps, streams, hidden;
    int64_t row;        /* elements of one row of `operand`, at least the gates or hidden units rounded up to even */
    int64_t next, done; /* first tile not yet taken by a thread, tiles that are done: both 0 at the start */
    int32_t backward;
    const uint16_t *packed; /* lstm_pack_work's, for this direction */
    /* Left operands of the product of a round and of the next one, (2, B, row). Forward: h, of which the first half
     * holds h0; backward: gradients of the gates. Elements beyond a row's values are 0. */
    uint16_t *operand;
    float *gates; /* (T, B, G) after the activations; forward: written, backward: read */
    float *cells; /* (T, B, H); forward: written, backward: read */
    const float *c0;
    /* forward */
    const uint16_t *inputs; /* the product of the inputs, (T, B, G), or with symbols a table of them, (V, G) */
    const int64_t *symbols; /* rows of the table, (T, B), or null */
    const float *bias;      /* (G): the sum of both biases */
    uint16_t *h;            /* (T, B, H), written */
    /* backward */
    const uint16_t *dh;  /* gradient of h, or null for zeros */
    const float *dlast;  /* gradient of the last h, or null for zeros */
    uint16_t *dgates;    /* (T, B, G), written */
    float *dcell;        /* (B, H): gradient of the last cell, overwritten by that of c0 */
    float *dh0, *dbias;  /* (B, H), written; (G), zeros at the start */
};

/* Rounds a weight (G, H) to bfloat16 in the order in which lstm_work reads it, cut into `tiles` tiles. */
struct lstm_pack {
    int64_t hidden, next;
    int32_t backward;
    const float *weight;
    uint16_t *packed; /* lstm_packed_size() elements, at a multiple of 64 bytes */
};

/* A forward pass over a window in float32, cut into rounds as above; the round before the first packs the weights. */
struct lstm_float_call {
    int64_t steps, streams, hidden;
    int64_t next, done;  /* as above */
    const float *weight; /* (G, H) */
    const float *inputs; /* the product of the inputs and both biases, (T, B, G), or with symbols a table, (V, G) */
    const int64_t *symbols; /* rows of the table, (T, B), or null */
    const float *h0;     /* (B, H) */
    float *packed;       /* lstm_float_packed_size() elements, at a multiple of 64 bytes */
    float *cells;        /* (B, H): the first cell, overwritten by the last one */
    float *h;            /* (T, B, H), written */
};

/* Whether this library and this machine have the bfloat16 products of AVX-512, which the functions below need. */
KERNELS_API int32_t lstm_available(void);

/* Elements of the packed weight of a layer. */
KERNELS_API int64_t lstm_packed_size(int64_t hidden, int32_t backward);

/* Elements of the packed weight of a layer in float32. */
KERNELS_API int64_t lstm_float_packed_size(int64_t hidden);

/* Process tiles of a struct lstm_pack, lstm_call or lstm_float_call until none is left. Every thread calls it once. */
KERNELS_API void lstm_pack_work(void *pack);
KERNELS_API void lstm_work(void *call);
KERNELS_API void lstm_float_work(void *call);

#endif
