/* Values of bfloat16: a word of a packed weight is two of them. Included before product.h, pack.h and cell.h. */
#define STORED uint16_t
#define NAME(name) name##_bf16
#define GROUP 2 /* values of a word */

static ALWAYS_INLINE FOR_BF16 __m512 NAME(load)(__mmask16 lanes, const STORED *from) {
    return (__m512)_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(lanes, from)), 16);
}

static ALWAYS_INLINE FOR_BF16 void NAME(store)(STORED *to, __mmask16 lanes, __m512 values) {
    _mm256_mask_storeu_epi16(to, lanes, (__m256i)_mm512_cvtneps_pbh(values));
}

/* sum + the products of `word` with `weights` */
static ALWAYS_INLINE FOR_BF16 __m512 NAME(multiply_add)(__m512 sum, __m512i word, __m512i weights) {
    return _mm512_dpbf16_ps(sum, (__m512bh)word, (__m512bh)weights);
}

/* LANES words of the values from[k], from[k + 1], ..., of which those at `size` and beyond are 0. */
static ALWAYS_INLINE FOR_BF16 __m512i NAME(words_of_row)(const float *from, int64_t k, int64_t size) {
    return (__m512i)_mm512_cvtne2ps_pbh(_mm512_maskz_loadu_ps(below(k + LANES, size), from + k + LANES),
                                        _mm512_maskz_loadu_ps(below(k, size), from + k));
}

/* The word of each column of a group of rows: the first row in the lower half of each lane, the second in the upper one. */
static ALWAYS_INLINE FOR_BF16 __m512i NAME(words_of_columns)(__mmask16 lanes, const float *from, int64_t row) {
    const __m512i first = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(_mm512_maskz_loadu_ps(lanes, from)));
    const __m512i second = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(_mm512_maskz_loadu_ps(lanes, from + row)));
    return _mm512_or_si512(first, _mm512_slli_epi32(second, 16));
}
