/* Weight dropout for the CPU; the mask is a function of seed and position. */
#ifndef WEIGHT_DROP_H
#define WEIGHT_DROP_H

#include "compiled.h"

/* One pass over `elements` values, cut into pieces that any number of threads may share. */
struct weight_drop_call {
    int64_t elements;
    int64_t next;     /* first piece not yet taken by a thread: 0 at the start */
    const void *from; /* to float, or to double where double_precision is set */
    void *to;
    uint64_t seed;
    double scale;        /* factor of the values that are not dropped */
    uint32_t drop_below; /* a value is dropped if its 32 random bits are below this */
    int32_t double_precision;
    int32_t level; /* instruction set: an index below kernels_levels() */
};

/* Process pieces of `call`, a struct weight_drop_call, until none is left. Every thread calls it once. */
KERNELS_API void weight_drop_work(void *call);

#endif
