/* Compiles the tiles of a kernel for each precision and instruction set. Included once by a kernel, after its functions for
 * float, double and bfloat16 are defined as TILE_F32, TILE_F64 and TILE_BF16; each is called with the arguments `call` and
 * `tile`, of the types CALL and TILE. */
typedef void (*work_on)(const struct CALL *, TILE);

#define COMPILED_FOR(level, ...)                                                                             \
    __VA_ARGS__ static void level##_f32(const struct CALL *call, TILE tile) {                                \
        TILE_F32(call, tile);                                                                                \
    }                                                                                                        \
    __VA_ARGS__ static void level##_f64(const struct CALL *call, TILE tile) {                                \
        TILE_F64(call, tile);                                                                                \
    }                                                                                                        \
    __VA_ARGS__ static void level##_bf16(const struct CALL *call, TILE tile) {                               \
        TILE_BF16(call, tile);                                                                               \
    }

COMPILED_FOR(plain, )
#if defined(__x86_64__)
COMPILED_FOR(avx2, FOR_AVX2)
COMPILED_FOR(avx512, FOR_AVX512)
#endif

/* By instruction set, then by precision */
static const work_on LEVELS[][3] = {
    {plain_f32, plain_f64, plain_bf16},
#if defined(__x86_64__)
    {avx2_f32, avx2_f64, avx2_bf16},
    {avx512_f32, avx512_f64, avx512_bf16},
#endif
};
