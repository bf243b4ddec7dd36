/* The steps of a tile: its product, then gates and cells, or their gradients. Included once per dtype. */

static FOR_BF16 void NAME(forward_tile)(const struct lstm_call *call, int64_t t, int64_t tile) {
    const int64_t hidden = call->hidden, streams = call->streams, first = tile * LANES;
    const int64_t words = FORWARD_WORDS(hidden, GROUP), step_of_cells = call->gates ? streams * hidden : 0;
    const __mmask16 lanes = below(first, hidden);
    const uint32_t *const before = call->operand + (t & 1) * streams * call->row;
    uint32_t *const after = call->operand + (~t & 1) * streams * call->row;
    ALIGNED float sums[CHUNK * WIDTH];
    __m512 bias[VECTORS];
    for (int gate = 0; gate < VECTORS; gate++)
        bias[gate] = _mm512_maskz_loadu_ps(lanes, call->bias + gate * hidden + first);
    for (int64_t start = 0; start < streams; start += CHUNK) {
        const int rows = (int)(streams - start < CHUNK ? streams - start : CHUNK);
        const int64_t from = (t * streams + start) * hidden + first, size = sizeof(STORED) * hidden;
        struct later later = {.count = 0};
        for (int gate = 0; gate < VECTORS; gate++) {
            const int64_t at = 4 * (from - first) + gate * hidden + first;
            if (!call->symbols) add_later(&later, (const STORED *)call->inputs + at, 4 * size);
            if (call->gates) add_later(&later, call->gates + at, 4 * sizeof(float) * hidden);
        }
        if (call->gates) add_later(&later, call->cells + from, sizeof(float) * hidden);
        add_later(&later, (STORED *)call->h + from, size);
        NAME(multiply)(before + start * call->row, call->row, rows, call->packed + tile * WIDTH * words, VECTORS, words,
                       sums, later);
        for (int m = 0; m < rows; m++) {
            const int64_t b = start + m, line = t * streams + b, at = b * hidden + first;
            const int64_t at_inputs = (call->symbols ? call->symbols[line] : line) * 4 * hidden + first;
            __m512 gates[VECTORS];
            for (int gate = 0; gate < VECTORS; gate++) {
                const __m512 input = NAME(load)(lanes, (const STORED *)call->inputs + at_inputs + gate * hidden);
                const __m512 sum = _mm512_load_ps(sums + m * WIDTH + gate * LANES);
                gates[gate] = _mm512_add_ps(sum, _mm512_add_ps(input, bias[gate]));
                gates[gate] = gate == 2 ? hyperbolic(gates[gate]) : sigmoid(gates[gate]);
                if (call->gates)
                    _mm512_mask_storeu_ps(call->gates + (line * 4 + gate) * hidden + first, lanes, gates[gate]);
            }
            const float *const from = t ? call->cells + (t - 1) * step_of_cells + at : call->c0 + at;
            const __m512 cell = _mm512_fmadd_ps(gates[1], _mm512_maskz_loadu_ps(lanes, from),
                                                _mm512_mul_ps(gates[0], gates[2]));
            _mm512_mask_storeu_ps(call->cells + t * step_of_cells + at, lanes, cell);
            const __m512 h = _mm512_mul_ps(gates[3], hyperbolic(cell));
            NAME(store)((STORED *)call->h + line * hidden + first, lanes, h);
            NAME(store)((STORED *)(after + b * call->row) + first, lanes, h);
        }
    }
}

/* The gates' gradients of LANES units of a stream at step t; `row` of the operand gets them as well. Adds to *dbias. */
static ALWAYS_INLINE FOR_BF16 void NAME(backward_cell)(const struct lstm_call *call, int64_t t, int64_t b,
                                                       int64_t first, __mmask16 lanes, __m512 dh, STORED *row,
                                                       __m512 *dbias) {
    const int64_t hidden = call->hidden, streams = call->streams, at = (t * streams + b) * hidden + first;
    const int64_t at_gates = (t * streams + b) * 4 * hidden + first;
    const __m512 one = _mm512_set1_ps(1);
    __m512 gates[VECTORS], gradients[VECTORS];
    for (int gate = 0; gate < VECTORS; gate++)
        gates[gate] = _mm512_maskz_loadu_ps(lanes, call->gates + at_gates + gate * hidden);
    if (call->dh) dh = _mm512_add_ps(dh, NAME(load)(lanes, (const STORED *)call->dh + at));
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
        NAME(store)((STORED *)call->dgates + at_gates + gate * hidden, lanes, gradients[gate]);
        NAME(store)(row + gate * hidden + first, lanes, gradients[gate]);
    }
}

/* The step t of a tile of `vectors` vectors of units; -1 is the gradient of h0. */
static FOR_BF16 void NAME(backward_tile)(const struct lstm_call *call, int64_t t, int64_t vector, int vectors) {
    const int64_t hidden = call->hidden, streams = call->streams, words = BACKWARD_WORDS(hidden, GROUP);
    const int has_product = t + 1 < call->steps;
    const uint32_t *const after = call->operand + (~t & 1) * streams * call->row;
    uint32_t *const now = call->operand + (t & 1) * streams * call->row;
    ALIGNED float sums[CHUNK * WIDTH];
    for (int64_t start = 0; start < streams; start += CHUNK) {
        const int rows = (int)(streams - start < CHUNK ? streams - start : CHUNK);
        struct later later = {.count = 0};
        for (int n = 0; n < vectors && t >= 0; n++) {
            const int64_t first = (vector + n) * LANES, from = (t * streams + start) * hidden + first;
            for (int gate = 0; gate < VECTORS; gate++) {
                const int64_t at = 4 * (from - first) + gate * hidden + first;
                add_later(&later, call->gates + at, 4 * sizeof(float) * hidden);
                add_later(&later, (STORED *)call->dgates + at, 4 * sizeof(STORED) * hidden);
            }
            if (t) add_later(&later, call->cells + from - streams * hidden, sizeof(float) * hidden);
            if (call->dh) add_later(&later, (const STORED *)call->dh + from, sizeof(STORED) * hidden);
        }
        if (has_product)
            NAME(multiply)(after + start * call->row, call->row, rows, call->packed + vector * LANES * words, vectors,
                           words, sums, later);
        for (int n = 0; n < vectors; n++) {
            const int64_t first = (vector + n) * LANES;
            const __mmask16 lanes = below(first, hidden);
            __m512 dbias[VECTORS] = {0};
            for (int m = 0; m < rows; m++) {
                const int64_t b = start + m, at = b * hidden + first;
                __m512 dh = has_product   ? _mm512_load_ps(sums + m * WIDTH + n * LANES)
                            : call->dlast ? _mm512_maskz_loadu_ps(lanes, call->dlast + at)
                                          : _mm512_setzero_ps();
                if (t < 0)
                    _mm512_mask_storeu_ps(call->dh0 + at, lanes, dh);
                else
                    NAME(backward_cell)(call, t, b, first, lanes, dh, (STORED *)(now + b * call->row), dbias);
            }
            for (int gate = 0; gate < VECTORS && t >= 0; gate++) {
                float *const total = call->dbias + gate * hidden + first;
                _mm512_mask_storeu_ps(total, lanes, _mm512_add_ps(dbias[gate], _mm512_maskz_loadu_ps(lanes, total)));
            }
        }
    }
}
