/* Vectors of LANES floats: masks, a transposition, and the activations. */
#define LANES 16

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

/* 2^n, and p with exp(-x) = 2^n (1 + p), for |x| < 80; other x count as -80 or 80, and NaN stays NaN. */
struct power {
    __m512 scale, p;
};

static ALWAYS_INLINE FOR_BF16 struct power exp_of_minus(__m512 x) {
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
    return (struct power){_mm512_scalef_ps(_mm512_set1_ps(1), n), _mm512_fmadd_ps(_mm512_mul_ps(r, r), e, r)};
}

static ALWAYS_INLINE FOR_BF16 __m512 reciprocal(__m512 x) {
    const __m512 estimate = _mm512_rcp14_ps(x);
    return _mm512_mul_ps(estimate, _mm512_fnmadd_ps(x, estimate, _mm512_set1_ps(2)));
}

/* 1 / (1 + exp(-x)), with a relative error below 3e-7 for |x| < 80 */
static ALWAYS_INLINE FOR_BF16 __m512 sigmoid(__m512 x) {
    const struct power power = exp_of_minus(x);
    const __m512 one = _mm512_set1_ps(1);
    return reciprocal(_mm512_add_ps(one, _mm512_fmadd_ps(power.scale, power.p, power.scale)));
}

/* tanh(x) = (1 - exp(-2 x)) / (1 + exp(-2 x)), with a relative error below 3e-7 also near 0, where 2 sigmoid(2 x) - 1 cancels */
static ALWAYS_INLINE FOR_BF16 __m512 hyperbolic(__m512 x) {
    const struct power power = exp_of_minus(_mm512_add_ps(x, x));
    const __m512 one = _mm512_set1_ps(1);
    const __m512 over = _mm512_fnmadd_ps(power.scale, power.p, _mm512_sub_ps(one, power.scale));
    return _mm512_mul_ps(over, reciprocal(_mm512_sub_ps(_mm512_set1_ps(2), over)));
}
