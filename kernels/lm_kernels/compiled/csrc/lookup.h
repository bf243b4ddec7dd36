/* Sums of rows by number: the gradient of a table whose rows were looked up. */
#ifndef LOOKUP_H
#define LOOKUP_H

#include "compiled.h"

/* sums[ids[n][k]] += values[n] for every row n and every k, in the order of n. Cut into tiles of LOOKUP_TILE columns, which
 * any number of threads may share. All arrays are contiguous. */
struct lookup_call {
    int64_t rows, each;     /* N, and ids of a row */
    int64_t columns;        /* G */
    int64_t table;          /* R, rows of the table; every id is below */
    int64_t next;           /* first tile not yet taken by a thread: 0 at the start */
    const int64_t *ids;     /* (N, each) */
    const void *values;     /* (N, G) of float, double or bfloat16 */
    void *sums;             /* (tiles, R, LOOKUP_TILE) of float, or of double for double: zeros at the start */
    int32_t precision;      /* LOOKUP_F32, LOOKUP_F64 or LOOKUP_BF16 */
    int32_t level;          /* instruction set: an index below kernels_levels() */
};

enum { LOOKUP_F32, LOOKUP_F64, LOOKUP_BF16 };

#define LOOKUP_TILE 64

/* Process tiles of `call`, a struct lookup_call, until none is left. Every thread calls it once. */
KERNELS_API void lookup_work(void *call);

#endif
