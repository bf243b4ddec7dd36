/* Undefine the constants of one precision before the next one is included. */
#undef REAL
#undef STORED
#undef BITS
#undef NAME
#undef FABS
#undef COPYSIGN
#undef LOG2E
#undef LN2_HIGH
#undef LN2_LOW
#undef ROUND_SHIFT
#undef MANTISSA
#undef ONE_BITS
#undef FLUSH
#undef POLYNOMIAL_HIGH
#undef POLYNOMIAL
#undef BLOCK
#undef ROUNDED
