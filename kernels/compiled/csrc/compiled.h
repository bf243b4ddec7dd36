/* What the compiled kernels share: a plain C interface, without Python and without torch.
 *
 * Each kernel has one function that works on a call until nothing is left of it, and that any number of threads may
 * run at once. A call names the instruction set it is to run on.
 */
#ifndef COMPILED_H
#define COMPILED_H

#include <stdint.h>

#if defined(_WIN32)
#define KERNELS_API __declspec(dllexport)
#else
#define KERNELS_API __attribute__((visibility("default")))
#endif

#define ALWAYS_INLINE inline __attribute__((always_inline))
#define ALIGNED _Alignas(64)

/* No pass of the loop that follows depends on another one. */
#if defined(__clang__)
#define INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#else
#define INDEPENDENT _Pragma("GCC ivdep")
#endif

/* Put before a function to compile it for one of the instruction sets that kernels_levels() counts. */
#if defined(__x86_64__)
#define FOR_AVX2 __attribute__((target("avx2,fma")))
#if defined(__clang__)
#define FOR_AVX512 __attribute__((target("avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")))
#else
#define FOR_AVX512 __attribute__((target("avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,prefer-vector-width=512")))
#endif
#endif

/* Number of instruction sets this machine can run: 1 plain, 2 with AVX2 and FMA, 3 with AVX-512. */
KERNELS_API int32_t kernels_levels(void);

/* Digest of the sources this library was built from. */
KERNELS_API const char *kernels_sources(void);

#endif
