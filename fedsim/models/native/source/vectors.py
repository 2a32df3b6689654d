"""C source: vectors of the machine's width, and functions that a compiler vectorises."""

SOURCE = r"""
#define _GNU_SOURCE
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#if defined(__linux__)
#include <sys/mman.h>
#endif

// A tile is ROWS x 16 sums in registers: PARTS vectors a row, and one vector register to spare.
#if defined(__AVX512F__)
enum { LANES = 16, PARTS = 1, ROWS = 12, SKINNY_ROWS = 8 };
#elif defined(__AVX__)
enum { LANES = 8, PARTS = 2, ROWS = 6, SKINNY_ROWS = 6 };
#elif defined(__aarch64__)
enum { LANES = 4, PARTS = 4, ROWS = 6, SKINNY_ROWS = 6 };
#else
enum { LANES = 4, PARTS = 4, ROWS = 3, SKINNY_ROWS = 3 };
#endif
enum { WIDTH = 16, MOST_ROWS = 12 };
typedef float vec __attribute__((vector_size(4 * LANES)));
typedef float unaligned_vec __attribute__((vector_size(4 * LANES), aligned(4)));

#define INLINE static inline __attribute__((always_inline))

INLINE int64_t round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }
INLINE int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

// exp (Cephes) over the range of a float's exponent, without infinities; NaN stays NaN, so that a
// model that diverged is seen.
INLINE float exp_(float x) {
    x = x > 88.0f ? 88.0f : x;
    x = x < -87.0f ? -87.0f : x;
    float n = rintf(x * 1.44269504088896341f);
    float r = x - n * 0.693359375f;
    r = r - n * -2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    union { uint32_t i; float f; } power = {(uint32_t)((int32_t)(n == n ? n : 0.0f) + 127) << 23};
    return p * power.f;
}

INLINE float sigmoid(float x) { return 1.0f / (1.0f + exp_(-x)); }

// Near zero 1 - 2 / (e^2x + 1) cancels, so there its series (Cephes).
INLINE float tanh_(float x) {
    float s = x * x;
    float p = -5.70498872745e-3f;
    p = p * s + 2.06390887954e-2f;
    p = p * s - 5.37397155531e-2f;
    p = p * s + 1.33314422036e-1f;
    p = p * s - 3.33332819422e-1f;
    float near = p * s * x + x;
    float far = 1.0f - 2.0f / (exp_(2.0f * x) + 1.0f);
    return fabsf(x) < 0.625f ? near : far;
}

// Memory that grows and is kept between calls. Large blocks ask for large pages: a recurrence
// reads megabytes of weights at every time step.
typedef struct { void *start; size_t bytes; } Buffer;

static void *room(Buffer *buffer, size_t bytes) {
    if (bytes > buffer->bytes) {
        free(buffer->start);
        size_t align = bytes >= (1u << 21) ? (1u << 21) : 64;
        buffer->bytes = round_up(bytes, align);
        buffer->start = aligned_alloc(align, buffer->bytes);
        if (!buffer->start) abort();
#if defined(MADV_HUGEPAGE)
        if (align > 64) madvise(buffer->start, buffer->bytes, MADV_HUGEPAGE);
#endif
    }
    return buffer->start;
}

INLINE float *floats(Buffer *buffer, int64_t count) { return room(buffer, 4 * count + 64); }
"""
