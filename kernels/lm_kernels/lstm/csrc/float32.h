/* Values of float32: a word of a packed weight is one of them. Included before product.h, pack.h and cell.h. */
#define STORED float
#define NAME(name) name##_f32
#define GROUP 1 /* values of a word */

static ALWAYS_INLINE FOR_BF16 __m512 NAME(load)(__mmask16 lanes, const STORED *from) {
    return _mm512_maskz_loadu_ps(lanes, from);
}

static ALWAYS_INLINE FOR_BF16 void NAME(store)(STORED *to, __mmask16 lanes, __m512 values) {
    _mm512_mask_storeu_ps(to, lanes, values);
}

/* sum + the products of `word` with `weights` */
static ALWAYS_INLINE FOR_BF16 __m512 NAME(multiply_add)(__m512 sum, __m512i word, __m512i weights) {
    return _mm512_fmadd_ps((__m512)word, (__m512)weights, sum);
}

/* LANES words of the values from[k], from[k + 1], ..., of which those at `size` and beyond are 0. */
static ALWAYS_INLINE FOR_BF16 __m512i NAME(words_of_row)(const float *from, int64_t k, int64_t size) {
    return (__m512i)_mm512_maskz_loadu_ps(below(k, size), from + k);
}

/* The word of each column of a group of rows. */
static ALWAYS_INLINE FOR_BF16 __m512i NAME(words_of_columns)(__mmask16 lanes, const float *from, int64_t row) {
    (void)row;
    return (__m512i)_mm512_maskz_loadu_ps(lanes, from);
}
