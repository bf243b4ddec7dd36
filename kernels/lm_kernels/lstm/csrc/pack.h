/* Packing of the recurrent weight (G, H) for both directions; see product.h for the order within a tile. Included once per
 * dtype. */

/* Forward, a tile is LANES hidden units: a vector per gate. k are the hidden units of the step before. */
static FOR_BF16 void NAME(pack_forward)(const struct lstm_call *call, int64_t tile) {
    const int64_t hidden = call->hidden, first = tile * LANES, words = FORWARD_WORDS(hidden, GROUP);
    uint32_t *const packed = call->packed + tile * WIDTH * words;
    for (int gate = 0; gate < VECTORS; gate++) {
        for (int64_t k = 0; k < words; k += LANES) {
            __m512i rows[LANES];
            for (int unit = 0; unit < LANES; unit++) {
                const float *const from = call->weight + (gate * hidden + first + unit) * hidden;
                rows[unit] = _mm512_setzero_si512();
                if (first + unit < hidden) rows[unit] = NAME(words_of_row)(from, GROUP * k, hidden);
            }
            transpose(rows);
            const int64_t left = words - k;
            for (int p = 0; p < (left < LANES ? left : LANES); p++)
                _mm512_store_si512(packed + (k + p) * WIDTH + gate * LANES, rows[p]);
        }
    }
}

/* Backward, a tile is `vectors` vectors of hidden units, and k are the gates. */
static FOR_BF16 void NAME(pack_backward)(const struct lstm_call *call, int64_t from, int vectors) {
    const int64_t hidden = call->hidden, words = BACKWARD_WORDS(hidden, GROUP);
    uint32_t *to = call->packed + from * LANES * words;
    for (int64_t k = 0; k < words; k++) {
        for (int n = 0; n < vectors; n++, to += LANES) {
            const int64_t first = (from + n) * LANES;
            const float *const rows = call->weight + GROUP * k * hidden + first;
            _mm512_store_si512(to, NAME(words_of_columns)(below(first, hidden), rows, hidden));
        }
    }
}
