/* Product of bfloat16 rows with a packed weight, accumulated in float32.
 *
 * A packed tile holds, for each pair of consecutive k, VECTORS vectors of LANES outputs with the two weights of each
 * output side by side, which is what vdpbf16ps reads.
 */
#define LANES 16
#define VECTORS 4
#define WIDTH (LANES * VECTORS)
/* ROWS x VECTORS sums, VECTORS weights and a pair of inputs fill the 32 registers but three. */
#define ROWS 6
/* Pairs of one pass over the rows: 32 KiB of weights. Measured: fewer or more are slower, and so is not to prefetch the
 * next pass where the weights exceed the second-level cache. */
#define PASS 128
/* Rows whose sums a thread holds at once: 16 KiB. */
#define CHUNK 64

/* sums (rows, WIDTH) += operand (rows, 2 pairs) @ weight; the first pass starts at 0. Prefetches a vector per pair from
 * `ahead`. */
static ALWAYS_INLINE FOR_BF16 void add_block(const int rows, const uint16_t *operand, int64_t row,
                                             const uint16_t *weight, int64_t pairs, float *sums, int first,
                                             const uint16_t *ahead) {
    __m512 sum[ROWS][VECTORS];
#pragma GCC unroll 6
    for (int m = 0; m < rows; m++)
#pragma GCC unroll 4
        for (int n = 0; n < VECTORS; n++)
            sum[m][n] = first ? _mm512_setzero_ps() : _mm512_load_ps(sums + m * WIDTH + n * LANES);
    for (int64_t p = 0; p < pairs; p++) {
        __m512bh weights[VECTORS];
        _mm_prefetch((const char *)(ahead + 2 * p * WIDTH), _MM_HINT_T0);
#pragma GCC unroll 4
        for (int n = 0; n < VECTORS; n++) weights[n] = (__m512bh)_mm512_load_si512(weight + 2 * (p * WIDTH + n * LANES));
#pragma GCC unroll 6
        for (int m = 0; m < rows; m++) {
            int32_t pair;
            memcpy(&pair, operand + m * row + 2 * p, sizeof pair);
            const __m512bh both = (__m512bh)_mm512_set1_epi32(pair);
#pragma GCC unroll 4
            for (int n = 0; n < VECTORS; n++) sum[m][n] = _mm512_dpbf16_ps(sum[m][n], both, weights[n]);
        }
    }
#pragma GCC unroll 6
    for (int m = 0; m < rows; m++)
#pragma GCC unroll 4
        for (int n = 0; n < VECTORS; n++) _mm512_store_ps(sums + m * WIDTH + n * LANES, sum[m][n]);
}

/* sums (rows, WIDTH) = operand (rows, 2 pairs) @ weight, for at most CHUNK rows. */
static FOR_BF16 void multiply(const uint16_t *operand, int64_t row, int rows, const uint16_t *weight, int64_t pairs,
                              float *sums) {
    const int blocks = (rows + ROWS - 1) / ROWS;
    for (int64_t p = 0; p < pairs; p += PASS) {
        const int64_t n = pairs - p < PASS ? pairs - p : PASS;
        const uint16_t *const part = weight + 2 * p * WIDTH;
        for (int block = 0, m = 0; block < blocks; block++) {
            /* Blocks of equal size: a last one of a single row would not hide the latency of its products. */
            const int size = (rows - m + blocks - block - 1) / (blocks - block);
            const uint16_t *const from = operand + m * row + 2 * p;
            float *const to = sums + m * WIDTH;
            const uint16_t *const ahead = part + 2 * (PASS * WIDTH + block % VECTORS * LANES);
            switch (size) {
                case 1: add_block(1, from, row, part, n, to, p == 0, ahead); break;
                case 2: add_block(2, from, row, part, n, to, p == 0, ahead); break;
                case 3: add_block(3, from, row, part, n, to, p == 0, ahead); break;
                case 4: add_block(4, from, row, part, n, to, p == 0, ahead); break;
                case 5: add_block(5, from, row, part, n, to, p == 0, ahead); break;
                default: add_block(6, from, row, part, n, to, p == 0, ahead); break;
            }
            m += size;
        }
    }
}
