/* tanh and sigmoid of one element, written so that a compiler turns a loop over elements into vectors.
 *
 * Every exponential is taken of -|x|, so every denominator lies in (1, 2], products of three neither overflow nor
 * underflow, and one division serves all gates of an element. Included once per precision.
 */

/* *e = exp(y) and *less = exp(y) - 1 for y in [-FLUSH, 0] or NaN; results below the normal numbers become 0.
 *
 * y = n ln 2 + r. Adding ROUND_SHIFT leaves n in the low bits of the sum, from where it moves into an exponent.
 * At y = -FLUSH that exponent is 0: 2^n is 0.
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

/* A sigmoid before its division: over / under, and its complement is rest / under. */
struct NAME(fraction) {
    REAL over, rest, under;
};

static ALWAYS_INLINE struct NAME(fraction) NAME(sigmoid)(REAL x) {
    REAL size = FABS(x), e, less;
    NAME(exponential)(size > FLUSH ? -FLUSH : -size, &e, &less);
    struct NAME(fraction) found = {x >= 0 ? 1 : e, x >= 0 ? e : 1, 1 + e};
    return found;
}

static ALWAYS_INLINE struct NAME(fraction) NAME(tanh)(REAL x) {
    REAL size = FABS(x), e, less;
    NAME(exponential)(size > FLUSH / 2 ? -FLUSH : -2 * size, &e, &less);
    struct NAME(fraction) found = {COPYSIGN(less, x), 0, 2 + less};
    return found;
}

/* z = tanh, f and o = sigmoid; f_rest = 1 - f and o_rest = 1 - o without cancellation. */
struct NAME(gates) {
    REAL z, f, f_rest, o, o_rest;
};

static ALWAYS_INLINE struct NAME(gates) NAME(open)(REAL z, REAL f, REAL o, int output_gate) {
    struct NAME(fraction) zs = NAME(tanh)(z), fs = NAME(sigmoid)(f), os = {1, 0, 1};
    REAL under_o = 1;
    if (output_gate) {
        os = NAME(sigmoid)(o);
        /* A NaN in o must not reach the cell through the shared division; os.over still carries it. */
        under_o = os.under < 2 ? os.under : 2;
    }
    REAL under_fo = output_gate ? fs.under * under_o : fs.under;
    REAL shared = 1 / (zs.under * under_fo);
    REAL per_f = output_gate ? shared * zs.under * under_o : shared * zs.under;
    REAL per_o = shared * zs.under * fs.under;
    struct NAME(gates) found = {
        zs.over * (shared * under_fo), fs.over * per_f, fs.rest * per_f, os.over * per_o, os.rest * per_o,
    };
    return found;
}
