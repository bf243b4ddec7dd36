/* tanh and sigmoid of one element, without branches, so that a compiler can vectorise a loop over elements.
 *
 * Every exponential is of -|x|, so every denominator is in (1, 2], and f and o can share a division without overflow.
 * Sharing it with z as well saved no time and added two ulp to the error of tanh. Included once per precision.
 */

/* *e = exp(y) and *less = exp(y) - 1 for y in [-FLUSH, 0] or NaN; results below the normal numbers become 0.
 *
 * y = n ln 2 + r. Adding ROUND_SHIFT rounds to n and leaves it in the low bits of the sum, from which a shift moves
 * it into the exponent. At y = -FLUSH that exponent is 0, and 2^n is 0.
 */
static ALWAYS_INLINE void NAME(exponential)(REAL y, REAL *e, REAL *less) {
    REAL shifted = y * LOG2E + ROUND_SHIFT;
    REAL n = shifted - ROUND_SHIFT;
    REAL r = (y - n * LN2_HIGH) - n * LN2_LOW;
    REAL less_r = r + r * r * POLYNOMIAL(r);
    union {
        REAL real;
        BITS bits;
    } power;
    power.real = shifted;
    power.bits = (power.bits << MANTISSA) + ONE_BITS;
    *e = power.real + power.real * less_r;
    *less = (power.real - 1) + power.real * less_r;
}

/* A gate before the division over / under. */
struct NAME(fraction) {
    REAL over, under;
};

/* The sigmoid of -|x|, which is the smaller of a sigmoid and its complement. */
static ALWAYS_INLINE struct NAME(fraction) NAME(sigmoid)(REAL x) {
    REAL size = FABS(x), e, less;
    NAME(exponential)(size > FLUSH ? -FLUSH : -size, &e, &less);
    struct NAME(fraction) smaller = {e, 1 + e};
    return smaller;
}

static ALWAYS_INLINE struct NAME(fraction) NAME(tanh)(REAL x) {
    REAL size = FABS(x), e, less;
    NAME(exponential)(size > FLUSH / 2 ? -FLUSH : -2 * size, &e, &less);
    struct NAME(fraction) signed_tanh = {COPYSIGN(less, x), 2 + less};
    return signed_tanh;
}

/* z = tanh, f and o = sigmoid; f_rest = 1 - f and o_rest = 1 - o without cancellation. */
struct NAME(gates) {
    REAL z, f, f_rest, o, o_rest;
};

static ALWAYS_INLINE struct NAME(gates) NAME(open)(REAL z, REAL f, REAL o, int output_gate) {
    struct NAME(fraction) zs = NAME(tanh)(z), fs = NAME(sigmoid)(f), os = {0, 1};
    REAL under_o = 1;
    if (output_gate) {
        os = NAME(sigmoid)(o);
        /* A NaN in o must not reach the cell through the shared division. It still reaches o through os.over. */
        under_o = os.under < 2 ? os.under : 2;
    }
    REAL shared = 1 / (output_gate ? fs.under * under_o : fs.under);
    REAL small_f = fs.over * (output_gate ? shared * under_o : shared), large_f = 1 - small_f;
    REAL small_o = os.over * (shared * fs.under), large_o = 1 - small_o;
    struct NAME(gates) open = {
        .z = zs.over / zs.under,
        .f = f >= 0 ? large_f : small_f,
        .f_rest = f >= 0 ? small_f : large_f,
        .o = o >= 0 ? large_o : small_o,
        .o_rest = o >= 0 ? small_o : large_o,
    };
    return open;
}
