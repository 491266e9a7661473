// Vectors of fp32 in the compiler's own vector types: as wide as the processor's registers, and
// the same source for each of them. Loads and stores convert from and to the tensors' types.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "cpu/dtypes.h"

namespace inferd {

#if defined(__AVX512F__)
constexpr int kLanes = 16;
#elif defined(__AVX2__)
constexpr int kLanes = 8;
#else
constexpr int kLanes = 4;
#endif

typedef float f32v __attribute__((vector_size(4 * kLanes)));
typedef int32_t i32v __attribute__((vector_size(4 * kLanes)));
typedef uint32_t u32v __attribute__((vector_size(4 * kLanes)));
typedef uint16_t u16v __attribute__((vector_size(2 * kLanes)));
typedef f16 f16v __attribute__((vector_size(2 * kLanes)));

inline f32v splat(float x) { return f32v{} + x; }

inline f32v load(const float* p) {
  f32v x;
  std::memcpy(&x, p, sizeof x);
  return x;
}

inline f32v load(const bf16* p) {
  u16v narrow;
  std::memcpy(&narrow, p, sizeof narrow);
  return (f32v)(__builtin_convertvector(narrow, u32v) << 16);
}

inline f32v load(const f16* p) {
#if defined(__AVX512F__)
  return (f32v)_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
#elif defined(__AVX2__)
  return (f32v)_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
#else
  f16v narrow;
  std::memcpy(&narrow, p, sizeof narrow);
  return __builtin_convertvector(narrow, f32v);
#endif
}

inline void store(float* p, f32v x) { std::memcpy(p, &x, sizeof x); }

inline void store(bf16* p, f32v x) {
  const u32v wide = (u32v)x;
  const u32v rounded = (wide + 0x7fff + ((wide >> 16) & 1)) >> 16;
  const u32v nan = (wide >> 16) | 0x40;
  const u16v narrow = __builtin_convertvector((wide & 0x7fffffff) > 0x7f800000 ? nan : rounded, u16v);
  std::memcpy(p, &narrow, sizeof narrow);
}

inline void store(f16* p, f32v x) {
#if defined(__AVX512F__)
  const __m256i narrow = _mm512_cvtps_ph((__m512)x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), narrow);
#elif defined(__AVX2__)
  const __m128i narrow = _mm256_cvtps_ph((__m256)x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), narrow);
#else
  const f16v narrow = __builtin_convertvector(x, f16v);
  std::memcpy(p, &narrow, sizeof narrow);
#endif
}

// The first n lanes, n < kLanes; the others are `rest`.
template <class T>
inline f32v load_n(const T* p, int64_t n, float rest = 0.0f) {
  f32v x = splat(rest);
  for (int64_t i = 0; i < n; ++i) x[i] = to_float(p[i]);
  return x;
}

template <class T>
inline void store_n(T* p, f32v x, int64_t n) {
  for (int64_t i = 0; i < n; ++i) p[i] = from_float<T>(x[i]);
}

// Sums lanes in pairs, always in the same order.
inline float sum(f32v x) {
  for (int width = kLanes / 2; width > 0; width /= 2)
    for (int i = 0; i < width; ++i) x[i] += x[i + width];
  return x[0];
}

inline float max(f32v x) {
  float y = x[0];
  for (int i = 1; i < kLanes; ++i) y = x[i] > y ? x[i] : y;
  return y;
}

// a > b in either argument's lane; the second where one of them is NaN.
inline f32v max(f32v a, f32v b) { return a > b ? a : b; }

// e^x, within 2 ulp; 0 below -87.3, infinity above 88.7, NaN for NaN. Cephes' reduction and
// polynomial (Moshier, expf).
inline f32v exp(f32v x) {
  const f32v low = splat(-87.33654f), high = splat(88.72283f);
  const f32v inside = x > high ? high : (x < low ? low : x);
  const f32v shifted = inside * 1.44269504f + 12582912.0f;  // 1.5 * 2^23: rounds to an integer
  const f32v n = shifted - 12582912.0f;
  f32v r = inside - n * 0.693359375f;
  r = r + n * 2.12194440e-4f;
  f32v p = splat(1.9875691500e-4f);
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  const f32v mantissa = p * r * r + r + 1.0f;
  // In two halves: 2^128 alone is not a float32, though e^88.72 is.
  const i32v exponent = (i32v)shifted - 0x4b400000;
  const i32v half = exponent >> 1;
  const f32v one = (f32v)((half + 127) << 23), two = (f32v)((exponent - half + 127) << 23);
  f32v y = mantissa * one * two;
  y = x > high ? splat(__builtin_inff()) : y;
  y = x < low ? splat(0.0f) : y;
  return x == x ? y : x;
}

}  // namespace inferd
