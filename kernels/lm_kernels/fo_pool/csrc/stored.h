/* Reading and writing blocks of values in memory, of type STORED. Included once per precision, before scan.h. */
#define BLOCK (BLOCK_BYTES / (int)sizeof(REAL))

static ALWAYS_INLINE void NAME(prefetch)(const STORED *block) {
    for (int line = 0; line < BLOCK * (int)sizeof(STORED); line += CACHE_LINE)
        __builtin_prefetch((const char *)block + line);
}

/* n values as REAL, in place or in `padded`. */
static ALWAYS_INLINE const REAL *NAME(fetch)(const STORED *row, REAL *padded, int n) {
#ifdef ROUNDED
    STORED block[BLOCK] = {0};
    uint32_t bits[BLOCK];
    if (n == BLOCK)
        memcpy(block, row, sizeof block);
    else
        memcpy(block, row, n * sizeof(STORED));
    for (int j = 0; j < BLOCK; j++) bits[j] = (uint32_t)block[j] << 16;
    memcpy(padded, bits, sizeof bits);
    return padded;
#else
    if (n == BLOCK) return row;
    memcpy(padded, row, n * sizeof(REAL));
    return padded;
#endif
}

/* Write n values of a block of BLOCK, with non-temporal stores if `stream` is set. */
static ALWAYS_INLINE void NAME(store)(STORED *to, const REAL *block, int n, int stream) {
#ifdef ROUNDED
    ALIGNED STORED rounded[BLOCK];
    uint32_t bits[BLOCK];
    memcpy(bits, block, sizeof bits);
    INDEPENDENT
    for (int j = 0; j < BLOCK; j++) {
        /* To the nearest, ties to even. A NaN must not overflow into the infinities. */
        const uint32_t nearest = bits[j] + 0x7fff + (bits[j] >> 16 & 1);
        const int is_nan = (bits[j] & 0x7fffffff) > 0x7f800000;
        rounded[j] = (STORED)((is_nan ? bits[j] | 0x400000 : nearest) >> 16);
    }
    put(to, rounded, n * sizeof(STORED), stream);
#else
    put(to, block, n * sizeof(REAL), stream);
#endif
}
