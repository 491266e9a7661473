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

// Sums of R rows and a panel's outputs.
template <int R>
using Sums = f32v[R][kVectors];

// How products are formed from a format. A step is the inputs that a Unit of weights holds; an
// input row has `kInputs` 4-byte numbers for it, and the rows' lie side by side.

// In fp32, with W::kInputs vectors W::weights(p, i) of weights at p.
template <class W>
struct Widened : W {
  template <int R>
  static void step(Sums<R>& sums, const typename W::Unit* weights, const float* x) {
#if defined(__AVX512F__)  // all weights stay in registers, while inputs pass
    f32v w[W::kInputs][kVectors];
#pragma GCC unroll 16
    for (int v = 0; v < kVectors; ++v)
#pragma GCC unroll 2
      for (int i = 0; i < W::kInputs; ++i) w[i][v] = W::weights(weights + v * kLanes, i);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 2
      for (int i = 0; i < W::kInputs; ++i)
#pragma GCC unroll 16
        for (int v = 0; v < kVectors; ++v)
          sums[r][v] = fma(w[i][v], splat(x[i * R + r]), sums[r][v]);
#else  // few registers: inputs stay in them, while weights pass
#pragma GCC unroll 2
    for (int i = 0; i < W::kInputs; ++i) {
      asm("" : "+r"(weights));  // or else what was read for one input is kept for the next
      f32v inputs[R];
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) inputs[r] = splat(x[i * R + r]);
#pragma GCC unroll 16
      for (int v = 0; v < kVectors; ++v) {
        const f32v w = W::weights(weights + v * kLanes, i);
#pragma GCC unroll 16
        for (int r = 0; r < R; ++r) sums[r][v] = fma(w, inputs[r], sums[r][v]);
      }
    }
#endif
  }
};

template <class T>
struct Single {
  using Unit = T;
  static constexpr int kInputs = 1;
  static f32v weights(const Unit* p, int) { return load(p); }
};

using F32 = Widened<Single<float>>;
using F16 = Widened<Single<f16>>;

#if defined(__AVX512BF16__)

// Pairs of bfloat16 on both sides.
struct Bf16 {
  using Unit = uint32_t;
  static constexpr int kInputs = 1;

  template <int R>
  static void step(Sums<R>& sums, const Unit* weights, const float* x) {
    __m512bh w[kVectors];
#pragma GCC unroll 16
    for (int v = 0; v < kVectors; ++v) w[v] = (__m512bh)_mm512_loadu_si512(weights + v * kLanes);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      int pair;
      std::memcpy(&pair, x + r, sizeof pair);
      const __m512bh input = (__m512bh)_mm512_set1_epi32(pair);
#pragma GCC unroll 16
      for (int v = 0; v < kVectors; ++v)
        sums[r][v] = (f32v)_mm512_dpbf16_ps((__m512)sums[r][v], w[v], input);
    }
  }
};

#else

struct Pairs {
  using Unit = uint32_t;
  static constexpr int kInputs = 2;
  static f32v weights(const Unit* p, int i) {
    u32v pairs;
    std::memcpy(&pairs, p, sizeof pairs);
    if (i == 1) {
      pairs >>= 16;
#if defined(__AVX2__) && !defined(__AVX512F__)
      asm("" : "+x"(pairs));  // or else a mask takes the one register too many
#endif
    }
    return (f32v)(pairs << 16);
  }
};

using Bf16 = Widened<Pairs>;

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
  Sums<R> sum{};
  for (int64_t k = 0; k < steps; ++k) {
    __builtin_prefetch(ahead.begin);
    __builtin_prefetch(ahead.begin + 64);
    ahead.begin += ahead.bytes;
    K::template step<R>(sum, weights, x);
    weights += kPanel;
    x += R * K::kInputs;
  }
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 16
    for (int v = 0; v < kVectors; ++v) store(sums + r * kPanel + v * kLanes, sum[r][v]);
}

}  // namespace inferd
