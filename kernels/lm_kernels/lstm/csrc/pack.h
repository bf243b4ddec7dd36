/* Packing of the recurrent weight (G, H) for both directions; see product.h for the order within a tile. */

/* Forward, a tile is LANES hidden units: a vector per gate. k are the hidden units of the step before. */
#define FORWARD_TILES(hidden) (((hidden) + LANES - 1) / LANES)
#define FORWARD_PAIRS(hidden) (((hidden) + 1) / 2)
#define FORWARD_SIZE(hidden) (FORWARD_PAIRS(hidden) * 2 * WIDTH)
/* Backward, a tile is WIDTH hidden units, and k are the gates. */
#define BACKWARD_TILES(hidden) (((hidden) + WIDTH - 1) / WIDTH)
#define BACKWARD_PAIRS(hidden) (2 * (hidden))
#define BACKWARD_SIZE(hidden) (BACKWARD_PAIRS(hidden) * 2 * WIDTH)

/* Mask of the lanes first, first + 1, ... that are below `size`. */
static ALWAYS_INLINE FOR_BF16 __mmask16 below(int64_t first, int64_t size) {
    const int64_t left = size - first;
    return left >= LANES ? 0xffff : left <= 0 ? 0 : (__mmask16)((1 << left) - 1);
}

/* Transpose LANES x LANES elements of 32 bits. */
static ALWAYS_INLINE FOR_BF16 void transpose(__m512i *rows) {
    __m512i t[LANES];
#pragma GCC unroll 8
    for (int i = 0; i < LANES; i += 2) {
        t[i] = _mm512_unpacklo_epi32(rows[i], rows[i + 1]);
        t[i + 1] = _mm512_unpackhi_epi32(rows[i], rows[i + 1]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < LANES; i += 4) {
        rows[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
        rows[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
        rows[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
        rows[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        t[i] = _mm512_shuffle_i32x4(rows[i], rows[i + 4], 0x88);
        t[i + 4] = _mm512_shuffle_i32x4(rows[i], rows[i + 4], 0xdd);
        t[i + 8] = _mm512_shuffle_i32x4(rows[i + 8], rows[i + 12], 0x88);
        t[i + 12] = _mm512_shuffle_i32x4(rows[i + 8], rows[i + 12], 0xdd);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        rows[i] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0x88);
        rows[i + 8] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0xdd);
        rows[i + 4] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0x88);
        rows[i + 12] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0xdd);
    }
}

static FOR_BF16 void pack_forward(const struct lstm_pack *pack, int64_t tile) {
    const int64_t hidden = pack->hidden, first = tile * LANES, pairs = FORWARD_PAIRS(hidden);
    uint16_t *const packed = pack->packed + tile * FORWARD_SIZE(hidden);
    for (int gate = 0; gate < VECTORS; gate++) {
        for (int64_t k = 0; k < hidden; k += 2 * LANES) {
            __m512i rows[LANES];
            const __mmask16 low = below(k, hidden), high = below(k + LANES, hidden);
            for (int unit = 0; unit < LANES; unit++) {
                const float *const from = pack->weight + (gate * hidden + first + unit) * hidden + k;
                rows[unit] = _mm512_setzero_si512();
                if (first + unit < hidden)
                    rows[unit] = (__m512i)_mm512_cvtne2ps_pbh(_mm512_maskz_loadu_ps(high, from + LANES),
                                                              _mm512_maskz_loadu_ps(low, from));
            }
            transpose(rows);
            const int64_t left = pairs - k / 2;
            for (int p = 0; p < (left < LANES ? left : LANES); p++)
                _mm512_store_si512(packed + 2 * ((k / 2 + p) * WIDTH + gate * LANES), rows[p]);
        }
    }
}

static FOR_BF16 void pack_backward(const struct lstm_pack *pack, int64_t tile) {
    const int64_t hidden = pack->hidden;
    uint16_t *to = pack->packed + tile * BACKWARD_SIZE(hidden);
    for (int64_t p = 0; p < BACKWARD_PAIRS(hidden); p++) {
        for (int n = 0; n < VECTORS; n++, to += 2 * LANES) {
            const int64_t first = tile * WIDTH + n * LANES;
            const __mmask16 lanes = below(first, hidden);
            const float *const from = pack->weight + 2 * p * hidden + first;
            /* The gate 2 p in the lower half of each lane, the gate 2 p + 1 in the upper one */
            const __m512i even = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(_mm512_maskz_loadu_ps(lanes, from)));
            const __m512i odd =
                _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(_mm512_maskz_loadu_ps(lanes, from + hidden)));
            _mm512_store_si512(to, _mm512_or_si512(even, _mm512_slli_epi32(odd, 16)));
        }
    }
}
