/* Gates and cells of a step, and their gradients, after the product of a tile. */

static ALWAYS_INLINE FOR_BF16 __m512 widen(__m256i values) {
    return (__m512)_mm512_slli_epi32(_mm512_cvtepu16_epi32(values), 16);
}

static ALWAYS_INLINE FOR_BF16 __m512 load_bf16(__mmask16 lanes, const uint16_t *from) {
    return widen(_mm256_maskz_loadu_epi16(lanes, from));
}

static ALWAYS_INLINE FOR_BF16 __m256i narrow(__m512 values) {
    return (__m256i)_mm512_cvtneps_pbh(values);
}

/* 1 / (1 + exp(-x)), with a relative error below 3e-7 for |x| < 80; NaN stays NaN. */
static ALWAYS_INLINE FOR_BF16 __m512 sigmoid(__m512 x) {
    const __m512 one = _mm512_set1_ps(1);
    /* Where x is NaN, both return their second operand. */
    x = _mm512_max_ps(_mm512_set1_ps(-80), _mm512_min_ps(_mm512_set1_ps(80), x));
    const __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(-1.44269504f)), _MM_FROUND_TO_NEAREST_INT);
    /* -x = n ln 2 + r */
    __m512 r = _mm512_fnmsub_ps(n, _mm512_set1_ps(0.693359375f), x);
    r = _mm512_fnmadd_ps(n, _mm512_set1_ps(-2.12194440e-4f), r);
    __m512 e = _mm512_fmadd_ps(r, _mm512_set1_ps(0.0013882515213f), _mm512_set1_ps(0.00836654711941f));
    e = _mm512_fmadd_ps(r, e, _mm512_set1_ps(0.0416672007304f));
    e = _mm512_fmadd_ps(r, e, _mm512_set1_ps(0.166665434244f));
    e = _mm512_fmadd_ps(r, e, _mm512_set1_ps(0.499999981496f));
    e = _mm512_fmadd_ps(_mm512_mul_ps(r, r), e, _mm512_add_ps(r, one));
    const __m512 under = _mm512_add_ps(one, _mm512_scalef_ps(e, n));
    const __m512 estimate = _mm512_rcp14_ps(under);
    return _mm512_mul_ps(estimate, _mm512_fnmadd_ps(under, estimate, _mm512_set1_ps(2)));
}

static ALWAYS_INLINE FOR_BF16 __m512 hyperbolic(__m512 x) {
    return _mm512_fmsub_ps(_mm512_set1_ps(2), sigmoid(_mm512_add_ps(x, x)), _mm512_set1_ps(1));
}

/* Row of `inputs` for a row of (T, B). */
static ALWAYS_INLINE int64_t input_row(const int64_t *symbols, int64_t row) {
    return symbols ? symbols[row] : row;
}

static FOR_BF16 void forward_tile(const struct lstm_call *call, int64_t t, int64_t tile) {
    const int64_t hidden = call->hidden, streams = call->streams, first = tile * LANES;
    const __mmask16 lanes = below(first, hidden);
    const uint16_t *const before = call->operand + (t & 1) * streams * call->row;
    uint16_t *const after = call->operand + (~t & 1) * streams * call->row;
    ALIGNED float sums[CHUNK * WIDTH];
    __m512 bias[VECTORS];
    for (int gate = 0; gate < VECTORS; gate++)
        bias[gate] = _mm512_maskz_loadu_ps(lanes, call->bias + gate * hidden + first);
    for (int64_t start = 0; start < streams; start += CHUNK) {
        const int rows = (int)(streams - start < CHUNK ? streams - start : CHUNK);
        multiply(before + start * call->row, call->row, rows, call->packed + tile * FORWARD_SIZE(hidden),
                 FORWARD_PAIRS(hidden), sums);
        for (int m = 0; m < rows; m++) {
            const int64_t b = start + m, at = (t * streams + b) * hidden + first;
            const int64_t at_gates = (t * streams + b) * 4 * hidden + first;
            const int64_t at_inputs = input_row(call->symbols, t * streams + b) * 4 * hidden + first;
            __m512 gates[VECTORS];
            for (int gate = 0; gate < VECTORS; gate++) {
                const __m512 input = load_bf16(lanes, call->inputs + at_inputs + gate * hidden);
                const __m512 sum = _mm512_load_ps(sums + m * WIDTH + gate * LANES);
                gates[gate] = _mm512_add_ps(sum, _mm512_add_ps(input, bias[gate]));
                gates[gate] = gate == 2 ? hyperbolic(gates[gate]) : sigmoid(gates[gate]);
                _mm512_mask_storeu_ps(call->gates + at_gates + gate * hidden, lanes, gates[gate]);
            }
            const float *const from = t ? call->cells + at - streams * hidden : call->c0 + b * hidden + first;
            const __m512 cell = _mm512_fmadd_ps(gates[1], _mm512_maskz_loadu_ps(lanes, from),
                                                _mm512_mul_ps(gates[0], gates[2]));
            _mm512_mask_storeu_ps(call->cells + at, lanes, cell);
            const __m256i h = narrow(_mm512_mul_ps(gates[3], hyperbolic(cell)));
            _mm256_mask_storeu_epi16(call->h + at, lanes, h);
            _mm256_mask_storeu_epi16(after + b * call->row + first, lanes, h);
        }
    }
}

/* The gates' gradients of LANES units of a stream at step t; `row` of the operand gets them as well. Adds to *dbias. */
static ALWAYS_INLINE FOR_BF16 void backward_cell(const struct lstm_call *call, int64_t t, int64_t b, int64_t first,
                                                 __mmask16 lanes, __m512 dh, uint16_t *row, __m512 *dbias) {
    const int64_t hidden = call->hidden, streams = call->streams, at = (t * streams + b) * hidden + first;
    const int64_t at_gates = (t * streams + b) * 4 * hidden + first;
    const __m512 one = _mm512_set1_ps(1);
    __m512 gates[VECTORS], gradients[VECTORS];
    for (int gate = 0; gate < VECTORS; gate++)
        gates[gate] = _mm512_maskz_loadu_ps(lanes, call->gates + at_gates + gate * hidden);
    if (call->dh) dh = _mm512_add_ps(dh, load_bf16(lanes, call->dh + at));
    const float *const from = t ? call->cells + at - streams * hidden : call->c0 + b * hidden + first;
    const __m512 before = _mm512_maskz_loadu_ps(lanes, from);
    const __m512 squashed = hyperbolic(_mm512_maskz_loadu_ps(lanes, call->cells + at));
    float *const carry = call->dcell + b * hidden + first;
    /* dc += dh o (1 - tanh(c)^2) */
    const __m512 dc = _mm512_fmadd_ps(_mm512_mul_ps(dh, gates[3]), _mm512_fnmadd_ps(squashed, squashed, one),
                                      _mm512_maskz_loadu_ps(lanes, carry));
    _mm512_mask_storeu_ps(carry, lanes, _mm512_mul_ps(dc, gates[1]));
    gradients[0] = _mm512_mul_ps(dc, gates[2]);
    gradients[1] = _mm512_mul_ps(dc, before);
    gradients[2] = _mm512_mul_ps(_mm512_mul_ps(dc, gates[0]), _mm512_fnmadd_ps(gates[2], gates[2], one));
    gradients[3] = _mm512_mul_ps(dh, squashed);
    for (int gate = 0; gate < VECTORS; gate++) {
        if (gate != 2)
            gradients[gate] =
                _mm512_mul_ps(gradients[gate], _mm512_fnmadd_ps(gates[gate], gates[gate], gates[gate]));
        dbias[gate] = _mm512_add_ps(dbias[gate], gradients[gate]);
        const __m256i narrowed = narrow(gradients[gate]);
        _mm256_mask_storeu_epi16(call->dgates + at_gates + gate * hidden, lanes, narrowed);
        _mm256_mask_storeu_epi16(row + gate * hidden + first, lanes, narrowed);
    }
}

/* The step t of a tile; -1 is the gradient of h0. */
static FOR_BF16 void backward_tile(const struct lstm_call *call, int64_t t, int64_t tile) {
    const int64_t hidden = call->hidden, streams = call->streams;
    const int has_product = t + 1 < call->steps;
    const uint16_t *const later = call->operand + (~t & 1) * streams * call->row;
    uint16_t *const now = call->operand + (t & 1) * streams * call->row;
    ALIGNED float sums[CHUNK * WIDTH];
    for (int64_t start = 0; start < streams; start += CHUNK) {
        const int rows = (int)(streams - start < CHUNK ? streams - start : CHUNK);
        if (has_product)
            multiply(later + start * call->row, call->row, rows, call->packed + tile * BACKWARD_SIZE(hidden),
                     BACKWARD_PAIRS(hidden), sums);
        for (int n = 0; n < VECTORS; n++) {
            const int64_t first = tile * WIDTH + n * LANES;
            const __mmask16 lanes = below(first, hidden);
            if (!lanes) break;
            __m512 dbias[VECTORS];
            for (int gate = 0; gate < VECTORS; gate++)
                dbias[gate] = _mm512_maskz_loadu_ps(lanes, call->dbias + gate * hidden + first);
            for (int m = 0; m < rows; m++) {
                const int64_t b = start + m, at = b * hidden + first;
                __m512 dh = has_product   ? _mm512_load_ps(sums + m * WIDTH + n * LANES)
                            : call->dlast ? _mm512_maskz_loadu_ps(lanes, call->dlast + at)
                                          : _mm512_setzero_ps();
                if (t < 0)
                    _mm512_mask_storeu_ps(call->dh0 + at, lanes, dh);
                else
                    backward_cell(call, t, b, first, lanes, dh, now + b * call->row, dbias);
            }
            for (int gate = 0; gate < VECTORS; gate++)
                _mm512_mask_storeu_ps(call->dbias + gate * hidden + first, lanes, dbias[gate]);
        }
    }
}
