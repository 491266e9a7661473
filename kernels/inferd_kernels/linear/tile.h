// The innermost loops of `linear`: some rows times some panels of a weight, over all inputs.
//
// Every sum is one accumulator that takes its products in the order of the inputs, whatever the
// number of rows and panels: so a row's result does not depend on the others.
#pragma once

#include "cpu/simd.h"
#include "linear/weight.h"

namespace inferd {

constexpr int kVectors = kPanel / kLanes;  // of a panel
#if defined(__AVX512F__)
constexpr int kMaxRows = 14;  // 28 sums, two vectors of weights and an input in 32 registers
constexpr int kMaxSums = 28;
#elif defined(__AVX2__)
constexpr int kMaxRows = 3;
constexpr int kMaxSums = 12;
#else
constexpr int kMaxRows = 3;
constexpr int kMaxSums = 24;
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

// What the processor is told to fetch while a tile is worked on: `lines` cache lines in each
// stretch of kStretch steps.
struct Ahead {
  const char* begin;
  int64_t lines;
};
constexpr int64_t kStretch = 16;

// sums[r][p * kPanel + o] for R rows and P panels, `stride` units apart. x: for each step and each
// of its inputs the R rows' numbers side by side.
template <class K, int R, int P>
void tile(const typename K::Unit* weights, int64_t stride, const float* x, int64_t steps,
          Ahead ahead, float* sums) {
  f32v sum[R][P * kVectors]{};
  const char* next = ahead.begin;
  for (int64_t k = 0; k < steps;) {
    for (int64_t i = 0; i < ahead.lines; ++i, next += 64) __builtin_prefetch(next, 0, 2);
    for (const int64_t end = k + kStretch < steps ? k + kStretch : steps; k < end; ++k) {
      typename K::Vector w[P * kVectors];
#pragma GCC unroll 16
      for (int v = 0; v < P * kVectors; ++v)
        w[v] = K::weights(weights + v / kVectors * stride + v % kVectors * kLanes);
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r)
#pragma GCC unroll 16
        for (int v = 0; v < P * kVectors; ++v) sum[r][v] = K::add(sum[r][v], w[v], x + r, R);
      weights += kPanel;
      x += R * K::kInputs;
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 16
    for (int v = 0; v < P * kVectors; ++v) store(sums + (r * P * kVectors + v) * kLanes, sum[r][v]);
}

}  // namespace inferd
