/* Fused QRNN pooling for the CPU.
 *
 * Shapes: T steps, B streams, H hidden units. gates is (T, B, 3H) with output_gate, else (T, B, 2H); keep
 * broadcasts to (T, B, H); out_mask and c0 are (B, H). Strides count elements; the innermost stride is 1, except
 * that of keep, which may be 0. h, cells and dgates are contiguous. A pointer is to float, or to double with
 * FO_POOL_F64. With FO_POOL_BF16 gates, h, cells, dh and dgates are bfloat16, and all else is float.
 */
#ifndef FO_POOL_H
#define FO_POOL_H

#include "compiled.h"

/* One forward or backward pass, cut into `tiles` tiles that any number of threads may share. */
struct fo_pool_call {
    int64_t steps, streams, hidden;
    int64_t tile;  /* columns of one tile, at most FO_POOL_MAX_TILE */
    int64_t tiles; /* streams * ceil(hidden / tile) */
    int64_t next;  /* first tile not yet taken by a thread: 0 at the start */
    const void *gates;
    int64_t gates_t, gates_b;
    const void *c0;
    int64_t c0_b;
    const void *keep; /* null: no zoneout */
    int64_t keep_t, keep_b, keep_h;
    const void *out_mask; /* null: no dropout of h */
    int64_t out_mask_b;
    void *h;        /* forward: written */
    void *cells;    /* forward: written, or null if h is the cells; backward: read */
    void *last;     /* forward: the cell after the last step, (B, H), written */
    const void *dh; /* backward: gradient of h, or null for zeros */
    int64_t dh_t, dh_b;
    const void *dlast; /* backward: gradient of last, or null for zeros */
    int64_t dlast_b;
    void *dgates, *dc0; /* backward: written */
    int32_t backward;
    int32_t precision; /* FO_POOL_F32, FO_POOL_F64 or FO_POOL_BF16 */
    int32_t output_gate;
    int32_t stream; /* use non-temporal stores */
    int32_t level;  /* instruction set: an index below kernels_levels() */
};

enum { FO_POOL_F32, FO_POOL_F64, FO_POOL_BF16 };

#define FO_POOL_MAX_TILE 1024

/* Process tiles of `call`, a struct fo_pool_call, until none is left. Every thread calls it once. */
KERNELS_API void fo_pool_work(void *call);

#endif
