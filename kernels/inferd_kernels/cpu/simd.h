// Vectors of fp32 in the compiler's own vector types: as wide as the processor's registers, and
// the same source for each of them. Loads and stores convert from and to the tensors' types.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
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

// With AVX512-BF16, numbers below 1.2e-38 become 0.
inline void store(bf16* p, f32v x) {
#if defined(__AVX512BF16__)
  const __m256bh narrow = _mm512_cvtneps_pbh((__m512)x);
  std::memcpy(p, &narrow, sizeof narrow);
#else
  const u32v wide = (u32v)x;
  const u32v rounded = (wide + 0x7fff + ((wide >> 16) & 1)) >> 16;
  const u32v nan = (wide >> 16) | 0x40;
  const u16v narrow = __builtin_convertvector((wide & 0x7fffffff) > 0x7f800000 ? nan : rounded, u16v);
  std::memcpy(p, &narrow, sizeof narrow);
#endif
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

// a * b + c, rounded once; twice where the processor has no such instruction.
inline f32v fma(f32v a, f32v b, f32v c) {
#if defined(__AVX512F__)
  return (f32v)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(__FMA__)
  return (f32v)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#elif defined(__ARM_FEATURE_FMA)
  return (f32v)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
#else
  return a * b + c;
#endif
}

// The first n lanes, 0 <= n <= kLanes; the others are `rest`. Reads nothing behind them.
template <class T>
inline f32v load_n(const T* p, int64_t n, float rest = 0.0f) {
#if defined(__AVX512F__)
  const auto lanes = static_cast<__mmask16>((1u << n) - 1);
  if constexpr (sizeof(T) == 4) {
    return (f32v)_mm512_mask_loadu_ps((__m512)splat(rest), lanes, p);
  } else {
    const __m256i narrow = _mm256_maskz_loadu_epi16(lanes, p);
    T buffer[kLanes];
    std::memcpy(buffer, &narrow, sizeof buffer);
    return (f32v)_mm512_mask_mov_ps((__m512)splat(rest), lanes, (__m512)load(buffer));
  }
#else
  T buffer[kLanes];
  for (int64_t i = 0; i < kLanes; ++i) buffer[i] = i < n ? p[i] : from_float<T>(rest);
  return load(buffer);
#endif
}

// Writes the first n lanes, 0 <= n <= kLanes, and nothing behind them.
template <class T>
inline void store_n(T* p, f32v x, int64_t n) {
#if defined(__AVX512F__)
  const auto lanes = static_cast<__mmask16>((1u << n) - 1);
  if constexpr (sizeof(T) == 4) {
    _mm512_mask_storeu_ps(p, lanes, (__m512)x);
  } else {
    __m256i narrow;
    T buffer[kLanes];
    store(buffer, x);
    std::memcpy(&narrow, buffer, sizeof narrow);
    _mm256_mask_storeu_epi16(p, lanes, narrow);
  }
#else
  T buffer[kLanes];
  store(buffer, x);
  for (int64_t i = 0; i < n; ++i) p[i] = buffer[i];
#endif
}

// The lanes in pairs that lie half a vector apart, then those sums likewise: the same order on
// every processor with vectors of this width.
template <class F>
inline float reduce(f32v x, F&& f) {
#if defined(__AVX2__)
#if defined(__AVX512F__)
  const __m256 y = f(_mm512_castps512_ps256((__m512)x), _mm512_extractf32x8_ps((__m512)x, 1));
#else
  const __m256 y = (__m256)x;
#endif
  __m128 z = f(_mm256_castps256_ps128(y), _mm256_extractf128_ps(y, 1));
  z = f(z, _mm_movehl_ps(z, z));
  return f(z, _mm_movehdup_ps(z))[0];
#else
  for (int width = kLanes / 2; width > 0; width /= 2)
    for (int i = 0; i < width; ++i) x[i] = f(x[i], x[i + width]);
  return x[0];
#endif
}

inline float sum(f32v x) {
  return reduce(x, [](auto a, auto b) { return a + b; });
}

// Of lanes that are not NaN.
inline float max(f32v x) {
  return reduce(x, [](auto a, auto b) { return a > b ? a : b; });
}

// a > b in either argument's lane; the second where one of them is NaN.
inline f32v max(f32v a, f32v b) { return a > b ? a : b; }

// e^x = mantissa * 2^exponent for -88 < x < 89, within 2 ulp. Cephes' reduction and polynomial
// (Moshier, expf).
struct Power {
  f32v mantissa;
  i32v exponent;
};

inline Power exp_parts(f32v x) {
  const f32v shifted = x * 1.44269504f + 12582912.0f;  // 1.5 * 2^23: rounds to an integer
  const f32v n = shifted - 12582912.0f;
  f32v r = x - n * 0.693359375f;
  r = r + n * 2.12194440e-4f;
  f32v p = splat(1.9875691500e-4f);
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  return {p * r * r + r + 1.0f, (i32v)shifted - 0x4b400000};
}

constexpr float kLeastPower = -87.33654f;  // e^x is a denormal number or 0 below it

// 0 below kLeastPower, infinity above 88.7, NaN for NaN.
inline f32v exp(f32v x) {
  const f32v low = splat(kLeastPower), high = splat(89.0f);
#if defined(__AVX512F__)
  const __m512 above = _mm512_max_ps((__m512)low, (__m512)x);  // x where it is NaN
  const Power power = exp_parts((f32v)_mm512_min_ps((__m512)high, above));
  const __mmask16 not_below = _mm512_cmp_ps_mask((__m512)x, (__m512)low, _CMP_NLT_UQ);
  const __m512 n = _mm512_cvtepi32_ps((__m512i)power.exponent);
  return (f32v)_mm512_maskz_scalef_ps(not_below, (__m512)power.mantissa, n);
#else
  const Power power = exp_parts(x > high ? high : (x < low ? low : x));
  // In two halves: 2^128 alone is not a float32, though e^88.72 is.
  const i32v half = power.exponent >> 1;
  const f32v one = (f32v)((half + 127) << 23), two = (f32v)((power.exponent - half + 127) << 23);
  const f32v y = power.mantissa * one * two;
  return x < low ? f32v{} : x == x ? y : x;
#endif
}

// The same for x <= 0 alone, in fewer instructions; something for NaN.
inline f32v exp_of_negative(f32v x) {
  const f32v low = splat(kLeastPower);
  const Power power = exp_parts(x > low ? x : low);
  return x < low ? f32v{} : power.mantissa * (f32v)((power.exponent + 127) << 23);
}

}  // namespace inferd
