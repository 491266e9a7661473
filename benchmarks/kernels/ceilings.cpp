// What a processor's cores can do at most: one thread's share of reading, copying and multiplying.
#include <cstdint>
#include <cstring>

#include "cpu/simd.h"

using inferd::f32v;
using inferd::fma;
using inferd::kLanes;
using inferd::load;
using inferd::splat;
using inferd::store;

// Reads n numbers, `times` over.
extern "C" float read_memory(const float* x, int64_t n, int64_t times) {
  f32v sums[8] = {};
  for (int64_t t = 0; t < times; ++t)
    for (int64_t i = 0; i + 8 * kLanes <= n; i += 8 * kLanes)
      for (int k = 0; k < 8; ++k) sums[k] += load(x + i + k * kLanes);
  for (int k = 1; k < 8; ++k) sums[0] += sums[k];
  return inferd::sum(sums[0]);
}

extern "C" float copy_memory(float* to, const float* from, int64_t n, int64_t times) {
  for (int64_t t = 0; t < times; ++t) std::memcpy(to, from, n * sizeof(float));
  return to[0];
}

constexpr int kChains = 12;  // more than a fused multiplication's latency times its throughput

// `times` steps of kChains multiplications and additions in each lane; returns lanes * kChains.
extern "C" int64_t multiply_add(int64_t times, float* out) {
  f32v sums[kChains];
  for (int k = 0; k < kChains; ++k) sums[k] = splat(static_cast<float>(k));
  const f32v a = splat(0.999f), b = splat(0.001f);
  for (int64_t t = 0; t < times; ++t)
    for (int k = 0; k < kChains; ++k) sums[k] = fma(sums[k], a, b);
  for (int k = 1; k < kChains; ++k) sums[0] += sums[k];
  out[0] = inferd::sum(sums[0]);
  return kLanes * kChains;
}

#if defined(__AVX512BF16__)
// The same with pairs of bf16: returns twice as many.
extern "C" int64_t multiply_add_bf16(int64_t times, float* out) {
  __m512 sums[kChains];
  for (int k = 0; k < kChains; ++k) sums[k] = _mm512_set1_ps(static_cast<float>(k));
  const __m512bh a = (__m512bh)_mm512_set1_epi32(0x3f803f80), b = a;
  for (int64_t t = 0; t < times; ++t)
    for (int k = 0; k < kChains; ++k) sums[k] = _mm512_dpbf16_ps(sums[k], a, b);
  for (int k = 1; k < kChains; ++k) sums[0] += sums[k];
  out[0] = inferd::sum((f32v)sums[0]);
  return 2 * kLanes * kChains;
}
#endif

#if defined(__AVX512VNNI__)
// The same with groups of four int8: returns four times as many.
extern "C" int64_t multiply_add_int8(int64_t times, float* out) {
  __m512i sums[kChains];
  for (int k = 0; k < kChains; ++k) sums[k] = _mm512_set1_epi32(k);
  const __m512i a = _mm512_set1_epi8(1), b = a;
  for (int64_t t = 0; t < times; ++t)
    for (int k = 0; k < kChains; ++k) sums[k] = _mm512_dpbusd_epi32(sums[k], a, b);
  for (int k = 1; k < kChains; ++k) sums[0] = _mm512_add_epi32(sums[0], sums[k]);
  out[0] = static_cast<float>(_mm512_reduce_add_epi32(sums[0]));
  return 4 * kLanes * kChains;
}
#endif
