/* Constants of single precision; see gates.h. The polynomial is a minimax fit with error 0.22 x 2^-24. */
#define REAL float
#define BITS uint32_t
#define STORED float
#define NAME(name) name##_f32
#define FABS __builtin_fabsf
#define COPYSIGN __builtin_copysignf
#define LOG2E 1.44269504f
#define LN2_HIGH 0.693359375f
#define LN2_LOW -2.12194440e-4f
#define ROUND_SHIFT 12582912.0f
#define MANTISSA 23
#define ONE_BITS 0x3f800000u
#define FLUSH 88.02f
#define POLYNOMIAL(r) \
    (0.499999981496f + r * (0.166665434244f + r * (0.0416672007304f + r * (0.00836654711941f + r * 0.0013882515213f))))
