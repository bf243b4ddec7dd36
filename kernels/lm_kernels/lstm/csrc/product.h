/* Product of rows with a packed weight, summed in float32 in the order of k. Included once per dtype.
 *
 * A word is GROUP values of consecutive k. A packed tile of up to VECTORS vectors of columns holds, for each word of k,
 * one word per column.
 */

/* sums (rows, vectors) += operand (rows, words) @ weight; the first pass starts at 0. Prefetches `lines` lines for each word
 * of k from `ahead`. */
static ALWAYS_INLINE FOR_BF16 void NAME(add_block)(const int rows, const int vectors, const uint32_t *operand,
                                                   int64_t row, const uint32_t *weight, int64_t words, float *sums,
                                                   int first, const uint32_t *ahead, int lines) {
    __m512 sum[ROWS][VECTORS];
#pragma GCC unroll 8
    for (int m = 0; m < rows; m++)
#pragma GCC unroll 4
        for (int n = 0; n < vectors; n++)
            sum[m][n] = first ? _mm512_setzero_ps() : _mm512_load_ps(sums + m * WIDTH + n * LANES);
    for (int64_t k = 0; k < words; k++) {
        __m512i weights[VECTORS];
        /* A single row reads faster without: measured, with it 0.75 of the rate from the third-level cache. */
        if (rows > 1)
            for (int line = 0; line < lines; line++, ahead += LANES) _mm_prefetch((const char *)ahead, _MM_HINT_T0);
#pragma GCC unroll 4
        for (int n = 0; n < vectors; n++) weights[n] = _mm512_load_si512(weight + (k * vectors + n) * LANES);
#pragma GCC unroll 8
        for (int m = 0; m < rows; m++) {
            const __m512i word = _mm512_set1_epi32((int32_t)operand[m * row + k]);
#pragma GCC unroll 4
            for (int n = 0; n < vectors; n++) sum[m][n] = NAME(multiply_add)(sum[m][n], word, weights[n]);
        }
    }
#pragma GCC unroll 8
    for (int m = 0; m < rows; m++)
#pragma GCC unroll 4
        for (int n = 0; n < vectors; n++) _mm512_store_ps(sums + m * WIDTH + n * LANES, sum[m][n]);
}

#define BLOCK(rows, vectors)                                                                                 \
    case (vectors) * (ROWS + 1) + (rows):                                                                    \
        NAME(add_block)(rows, vectors, from, row, part, n, to, k == 0, ahead, lines);                               \
        break;
#define BLOCKS(vectors)                                                                                      \
    BLOCK(1, vectors)                                                                                        \
    BLOCK(2, vectors) BLOCK(3, vectors) BLOCK(4, vectors) BLOCK(5, vectors) BLOCK(6, vectors)

/* sums (rows, WIDTH) = operand (rows, words) @ weight, for at most CHUNK rows. Prefetches what the cells need meanwhile. */
static FOR_BF16 void NAME(multiply)(const uint32_t *operand, int64_t row, int rows, const uint32_t *weight, int vectors,
                                    int64_t words, float *sums, struct later later) {
    const int most = vectors == VECTORS ? ROWS_OF_FOUR : ROWS, blocks = (rows + most - 1) / most;
    const int64_t calls = (words + PASS - 1) / PASS * blocks, each = (later.count * rows + calls - 1) / calls;
    for (int64_t k = 0; k < words; k += PASS) {
        const int64_t n = words - k < PASS ? words - k : PASS;
        const uint32_t *const part = weight + k * vectors * LANES;
        for (int block = 0, m = 0; block < blocks; block++) {
            /* Blocks of equal size: a last one of a single row would not hide the latency of its products. */
            const int size = (rows - m + blocks - block - 1) / (blocks - block);
            const uint32_t *const from = operand + m * row + k;
            float *const to = sums + m * WIDTH;
            /* The blocks share the weights of the next pass. */
            const int fetched = vectors * block / blocks, lines = vectors * (block + 1) / blocks - fetched;
            const uint32_t *const ahead = part + PASS * (vectors + fetched) * LANES;
            switch (vectors * (ROWS + 1) + size) {
                BLOCKS(4)
                BLOCKS(3) BLOCK(7, 3) BLOCK(8, 3)
                BLOCKS(2) BLOCK(7, 2) BLOCK(8, 2)
                BLOCKS(1) BLOCK(7, 1) BLOCK(8, 1)
            }
            m += size;
            prefetch_later(&later, rows, each);
        }
    }
}

#undef BLOCK
#undef BLOCKS
