// The innermost loop of `linear`: some rows times a panel of a weight, over all inputs.
//
// Every sum is one accumulator that takes its products in the order of the inputs, whatever the
// number of rows: so a row's result does not depend on the others.
#pragma once

#include "cpu/simd.h"
#include "linear/weight.h"

namespace inferd {

constexpr int kVectors = kPanel / kLanes;  // of a panel
#if defined(__AVX512F__)
constexpr int kMaxRows = 14;  // 28 sums, two vectors of weights and an input in 32 registers
#else
constexpr int kMaxRows = 3;  // of 4 vectors in 16 registers, or 8 in 32
#endif

// How products are formed from a format. A step is the inputs that a Unit of weights holds; of
// `kInputs` 4-byte numbers an input row has for it.
struct F32 {
  using Unit = float;
  static constexpr int kInputs = 1;
  using Vector = f32v;
  static Vector weights(const Unit* p) { return load(p); }
  static f32v add(f32v sum, Vector w, const float* x, int) { return fma(w, splat(*x), sum); }
};

struct F16 {
  using Unit = f16;
  static constexpr int kInputs = 1;
  using Vector = f32v;
  static Vector weights(const Unit* p) { return load(p); }
  static f32v add(f32v sum, Vector w, const float* x, int) { return fma(w, splat(*x), sum); }
};

#if defined(__AVX512BF16__)

// Pairs of bfloat16 on both sides.
struct Bf16 {
  using Unit = uint32_t;
  static constexpr int kInputs = 1;
  using Vector = __m512i;
  static Vector weights(const Unit* p) { return _mm512_loadu_si512(p); }
  static f32v add(f32v sum, Vector w, const float* x, int) {
    int pair;
    std::memcpy(&pair, x, sizeof pair);
    return (f32v)_mm512_dpbf16_ps((__m512)sum, (__m512bh)w, (__m512bh)_mm512_set1_epi32(pair));
  }
};

#else

// Inputs widened to fp32, and weights as they are loaded.
struct Bf16 {
  using Unit = uint32_t;
  static constexpr int kInputs = 2;
  struct Vector {
    f32v even, odd;
  };
  static Vector weights(const Unit* p) {
    u32v pairs;
    std::memcpy(&pairs, p, sizeof pairs);
    return {(f32v)(pairs << 16), (f32v)(pairs & 0xffff0000)};
  }
  static f32v add(f32v sum, Vector w, const float* x, int rows) {
    return fma(w.odd, splat(x[rows]), fma(w.even, splat(*x), sum));
  }
};

#endif

// What is fetched into the cache while a tile is worked on: two lines from `begin` on, and with
// each step from `bytes` further on.
struct Ahead {
  const char* begin;
  int64_t bytes;
};

// sums[r][o] of R rows and a panel's outputs. x: for each step and each of its inputs the R rows'
// numbers side by side.
template <class K, int R>
void tile(const typename K::Unit* weights, const float* x, int64_t steps, Ahead ahead,
          float* sums) {
  f32v sum[R][kVectors]{};
  for (int64_t k = 0; k < steps; ++k) {
    __builtin_prefetch(ahead.begin);
    __builtin_prefetch(ahead.begin + 64);
    ahead.begin += ahead.bytes;
    typename K::Vector w[kVectors];
#pragma GCC unroll 16
    for (int v = 0; v < kVectors; ++v) w[v] = K::weights(weights + v * kLanes);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 16
      for (int v = 0; v < kVectors; ++v) sum[r][v] = K::add(sum[r][v], w[v], x + r, R);
    weights += kPanel;
    x += R * K::kInputs;
  }
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 16
    for (int v = 0; v < kVectors; ++v) store(sums + r * kPanel + v * kLanes, sum[r][v]);
}

}  // namespace inferd
