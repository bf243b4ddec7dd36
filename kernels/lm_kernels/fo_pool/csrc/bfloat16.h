/* bfloat16 in memory, computed in single precision. */
#include "float32.h"
#undef STORED
#undef NAME
#define STORED uint16_t
#define NAME(name) name##_bf16
#define ROUNDED
