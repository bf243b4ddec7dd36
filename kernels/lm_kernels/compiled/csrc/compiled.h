/* Shared by the compiled kernels: a plain C interface, without Python and without torch.
 *
 * Each kernel exports one function that works on a call until all of it is done. Any number of threads may run it at
 * once on the same call. A call names the instruction set to use.
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

/* The iterations of the loop that follows are independent, so the compiler may vectorise it. */
#if defined(__clang__)
#define INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#else
#define INDEPENDENT _Pragma("GCC ivdep")
#endif

/* Attributes that compile a function for one of the instruction sets of kernels_levels(). */
#if defined(__x86_64__)
#define FOR_AVX2 __attribute__((target("avx2,fma")))
#if defined(__clang__)
#define FOR_AVX512 __attribute__((target("avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")))
#else
#define FOR_AVX512 __attribute__((target("avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,prefer-vector-width=512")))
#endif
#endif

/* Number of instruction sets that this machine can run: 1 plain, 2 with AVX2 and FMA, 3 with AVX-512. */
KERNELS_API int32_t kernels_levels(void);

/* Digest of the sources that this library was built from. */
KERNELS_API const char *kernels_sources(void);

#endif
