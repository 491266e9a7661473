// Attention's inner loops: a tile of scores and a tile of weighted values, held in registers.
//
// Every score is the same sum in the same order, whatever tile it is computed in, and so is every
// output; a row's bits do not tell whether it was decoded alone or prefilled among others.
#pragma once

#include <cstdint>
#include <type_traits>
#include <utility>

#include "cpu/simd.h"

namespace inferd::tiles {

constexpr int kQuarters = kLanes / 4;  // of four lanes each; also the most queries of a tile
constexpr int kValueVectors = kLanes == 8 ? 2 : 4;  // AVX2 has 16 registers, the others 32

// How a key of type T meets a query: lane by lane along the head, summed at the end.
template <class T>
struct Dot {
  using Query = float;
  using Vector = f32v;
  static constexpr int kStep = kLanes;
  static f32v query(const float* p) { return load(p); }
  static f32v key(const T* p) { return load(p); }
  static f32v add(f32v sum, f32v query, f32v key) { return sum + query * key; }
};

#if defined(__AVX512BF16__)
template <>
struct Dot<bf16> {
  using Query = bf16;
  using Vector = __m512bh;
  static constexpr int kStep = 2 * kLanes;
  static Vector query(const bf16* p) { return (Vector)_mm512_loadu_si512(p); }
  static Vector key(const bf16* p) { return (Vector)_mm512_loadu_si512(p); }
  static f32v add(f32v sum, Vector query, Vector key) {
    return (f32v)_mm512_dpbf16_ps((__m512)sum, query, key);
  }
};
#endif

// Keys of a chunk that many queries share are copied to this type first.
template <class T>
using Packed = typename Dot<T>::Query;

template <class At, size_t... lanes>
inline f32v shuffle(f32v a, f32v b, At, std::index_sequence<lanes...>) {
  return __builtin_shufflevector(a, b, At::at(lanes)...);
}

// a's and b's lanes: the first `kHalf` of each `kSpan`, plus the second.
template <int kSpan>
inline f32v fold(f32v a, f32v b) {
  constexpr int kHalf = kSpan / 2;
  struct Low {
    static constexpr int at(int lane) {
      const int from = lane < kLanes / 2 ? lane : lane - kLanes / 2;
      return (lane < kLanes / 2 ? 0 : kLanes) + from / kHalf * kSpan + from % kHalf;
    }
  };
  struct High {
    static constexpr int at(int lane) { return Low::at(lane) + kHalf; }
  };
  const auto lanes = std::make_index_sequence<kLanes>();
  return shuffle(a, b, Low{}, lanes) + shuffle(a, b, High{}, lanes);
}

// The same within each quarter: its lanes are first a's, then b's.
template <int kSpan>
inline f32v fold_quarters(f32v a, f32v b) {
  constexpr int kHalf = kSpan / 2;
  struct Low {
    static constexpr int at(int lane) {
      const int from = lane % 2 + (kHalf == 1 ? lane % 2 : 0);
      return (lane % 4 < 2 ? 0 : kLanes) + lane / 4 * 4 + from;
    }
  };
  struct High {
    static constexpr int at(int lane) { return Low::at(lane) + kHalf; }
  };
  const auto lanes = std::make_index_sequence<kLanes>();
  return shuffle(a, b, Low{}, lanes) + shuffle(a, b, High{}, lanes);
}

// Lane i is sum(x[i]) for 0 ≤ i < kLanes, added in the same order as by `sum`.
inline f32v sums(const f32v* x) {
  f32v quarters[4];
  for (int i = 0; i < 4; ++i) {
    if constexpr (kLanes == 16)
      quarters[i] = fold<8>(fold<16>(x[i], x[4 + i]), fold<16>(x[8 + i], x[12 + i]));
    else if constexpr (kLanes == 8)
      quarters[i] = fold<8>(x[i], x[4 + i]);
    else
      quarters[i] = x[i];
  }
  return fold_quarters<2>(fold_quarters<4>(quarters[0], quarters[1]),
                          fold_quarters<4>(quarters[2], quarters[3]));
}

// scores[q][k] = queries[q] · (keys[k] + offset) for kQueries rows and kLanes / kQueries keys.
// `width` is a multiple of kStep.
template <int kQueries, class T>
inline void scores(float* scores, int64_t stride, const Packed<T>* queries, const T* const* keys,
                   int64_t offset, int64_t width) {
  constexpr int kKeys = kLanes / kQueries;
  using D = Dot<T>;
  f32v sum[kQueries * kKeys]{};
  for (int64_t d = 0; d < width; d += D::kStep) {
    typename D::Vector query[kQueries];
    for (int q = 0; q < kQueries; ++q) query[q] = D::query(queries + q * width + d);
    for (int k = 0; k < kKeys; ++k) {
      const typename D::Vector key = D::key(keys[k] + offset + d);
      for (int q = 0; q < kQueries; ++q)
        sum[q * kKeys + k] = D::add(sum[q * kKeys + k], query[q], key);
    }
  }
  const f32v all = sums(sum);
  for (int q = 0; q < kQueries; ++q)
    std::memcpy(scores + q * stride, reinterpret_cast<const float*>(&all) + q * kKeys,
                kKeys * sizeof(float));
}

// out[q][d …] += sum over j of weights[q][j] * values[j][offset + d …], one j after another.
template <int kQueries, int kVectors, class T>
inline void add_values(float* out, int64_t width, const float* weights, int64_t stride,
                       const T* const* values, int64_t offset, int64_t begin, int64_t end,
                       int64_t d) {
  f32v sum[kQueries][kVectors];
  for (int q = 0; q < kQueries; ++q)
    for (int v = 0; v < kVectors; ++v) sum[q][v] = load(out + q * width + d + v * kLanes);
  for (int64_t j = begin; j < end; ++j) {
    f32v value[kVectors];
    for (int v = 0; v < kVectors; ++v) value[v] = load(values[j] + offset + d + v * kLanes);
    for (int q = 0; q < kQueries; ++q) {
      const f32v weight = splat(weights[q * stride + j]);
      for (int v = 0; v < kVectors; ++v) sum[q][v] = sum[q][v] + weight * value[v];
    }
  }
  for (int q = 0; q < kQueries; ++q)
    for (int v = 0; v < kVectors; ++v) store(out + q * width + d + v * kLanes, sum[q][v]);
}

// The same for all of `width`, a multiple of kLanes.
template <int kQueries, class T>
void add_values(float* out, int64_t width, const float* weights, int64_t stride,
                const T* const* values, int64_t offset, int64_t begin, int64_t end) {
  if (begin >= end) return;
  int64_t d = 0;
  for (; d + kValueVectors * kLanes <= width; d += kValueVectors * kLanes)
    add_values<kQueries, kValueVectors>(out, width, weights, stride, values, offset, begin, end, d);
  for (; d < width; d += kLanes)
    add_values<kQueries, 1>(out, width, weights, stride, values, offset, begin, end, d);
}

}  // namespace inferd::tiles
