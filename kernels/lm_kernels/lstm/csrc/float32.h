/* A forward pass in float32 without anything that a backward pass needs.
 *
 * Each sum starts at 0 and adds its products in the order of k, and then the product of the inputs. So the bits of a
 * step depend neither on the other streams nor on the number of threads.
 */

/* Columns of one pass over the rows: 32 KiB of weights. */
#define FLOAT_PASS 128

static ALWAYS_INLINE FOR_BF16 void add_float_block(const int rows, const float *operand, int64_t row,
                                                   const float *weight, int64_t columns, float *sums, int first) {
    __m512 sum[ROWS][VECTORS];
#pragma GCC unroll 6
    for (int m = 0; m < rows; m++)
#pragma GCC unroll 4
        for (int n = 0; n < VECTORS; n++)
            sum[m][n] = first ? _mm512_setzero_ps() : _mm512_load_ps(sums + m * WIDTH + n * LANES);
    /* No prefetch here: measured, it takes a quarter of the rate at which one row reads weights from the third level. */
    for (int64_t k = 0; k < columns; k++) {
        __m512 weights[VECTORS];
#pragma GCC unroll 4
        for (int n = 0; n < VECTORS; n++) weights[n] = _mm512_load_ps(weight + k * WIDTH + n * LANES);
#pragma GCC unroll 6
        for (int m = 0; m < rows; m++) {
            const __m512 value = _mm512_set1_ps(operand[m * row + k]);
#pragma GCC unroll 4
            for (int n = 0; n < VECTORS; n++) sum[m][n] = _mm512_fmadd_ps(value, weights[n], sum[m][n]);
        }
    }
#pragma GCC unroll 6
    for (int m = 0; m < rows; m++)
#pragma GCC unroll 4
        for (int n = 0; n < VECTORS; n++) _mm512_store_ps(sums + m * WIDTH + n * LANES, sum[m][n]);
}

/* sums (rows, WIDTH) = operand (rows, columns) @ weight, for at most CHUNK rows. */
static FOR_BF16 void multiply_float(const float *operand, int rows, const float *weight, int64_t columns, float *sums) {
    const int blocks = (rows + ROWS - 1) / ROWS;
    for (int64_t k = 0; k < columns; k += FLOAT_PASS) {
        const int64_t n = columns - k < FLOAT_PASS ? columns - k : FLOAT_PASS;
        const float *const part = weight + k * WIDTH;
        for (int block = 0, m = 0; block < blocks; block++) {
            const int size = (rows - m + blocks - block - 1) / (blocks - block);
            const float *const from = operand + m * columns + k;
            float *const to = sums + m * WIDTH;
            switch (size) {
                case 1: add_float_block(1, from, columns, part, n, to, k == 0); break;
                case 2: add_float_block(2, from, columns, part, n, to, k == 0); break;
                case 3: add_float_block(3, from, columns, part, n, to, k == 0); break;
                case 4: add_float_block(4, from, columns, part, n, to, k == 0); break;
                case 5: add_float_block(5, from, columns, part, n, to, k == 0); break;
                default: add_float_block(6, from, columns, part, n, to, k == 0); break;
            }
            m += size;
        }
    }
}

static FOR_BF16 void float_tile(const struct lstm_float_call *call, int64_t t, int64_t tile) {
    const int64_t hidden = call->hidden, streams = call->streams, first = tile * LANES;
    const __mmask16 lanes = below(first, hidden);
    const float *const before = t ? call->h + (t - 1) * streams * hidden : call->h0;
    ALIGNED float sums[CHUNK * WIDTH];
    for (int64_t start = 0; start < streams; start += CHUNK) {
        const int rows = (int)(streams - start < CHUNK ? streams - start : CHUNK);
        multiply_float(before + start * hidden, rows, call->packed + tile * WIDTH * hidden, hidden, sums);
        for (int m = 0; m < rows; m++) {
            const int64_t b = start + m, at = b * hidden + first;
            const float *const inputs = call->inputs + input_row(call->symbols, t * streams + b) * 4 * hidden + first;
            __m512 gates[VECTORS];
            for (int gate = 0; gate < VECTORS; gate++) {
                const __m512 sum = _mm512_load_ps(sums + m * WIDTH + gate * LANES);
                gates[gate] = _mm512_add_ps(sum, _mm512_maskz_loadu_ps(lanes, inputs + gate * hidden));
                gates[gate] = gate == 2 ? hyperbolic(gates[gate]) : sigmoid(gates[gate]);
            }
            const __m512 cell = _mm512_fmadd_ps(gates[1], _mm512_maskz_loadu_ps(lanes, call->cells + at),
                                                _mm512_mul_ps(gates[0], gates[2]));
            _mm512_mask_storeu_ps(call->cells + at, lanes, cell);
            _mm512_mask_storeu_ps(call->h + t * streams * hidden + at, lanes,
                                  _mm512_mul_ps(gates[3], hyperbolic(cell)));
        }
    }
}

static FOR_BF16 void pack_float(const struct lstm_float_call *call, int64_t tile) {
    const int64_t hidden = call->hidden, first = tile * LANES;
    float *const packed = call->packed + tile * WIDTH * hidden;
    for (int gate = 0; gate < VECTORS; gate++) {
        for (int64_t k = 0; k < hidden; k += LANES) {
            __m512i rows[LANES];
            const __mmask16 lanes = below(k, hidden);
            for (int unit = 0; unit < LANES; unit++) {
                const float *const from = call->weight + (gate * hidden + first + unit) * hidden + k;
                rows[unit] = _mm512_setzero_si512();
                if (first + unit < hidden) rows[unit] = (__m512i)_mm512_maskz_loadu_ps(lanes, from);
            }
            transpose(rows);
            const int64_t left = hidden - k;
            for (int p = 0; p < (left < LANES ? left : LANES); p++)
                _mm512_store_si512(packed + (k + p) * WIDTH + gate * LANES, rows[p]);
        }
    }
}
