// Dot products of a few rows with a few others, held in registers.
//
// Each is the same sum in the same order, whatever others are computed beside it.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#include "cpu/simd.h"

namespace inferd::dots {

constexpr int kQuarters = kLanes / 4;  // of four lanes each; also the most rows of a tile

// How a row of type T (a key, say) meets one of ours (a query): lane by lane, summed at the end.
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

// What our rows are converted to, and those that many of ours will meet may be.
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

// out[q][k] = queries[q] · (keys[k] + offset) for kQueries rows and kLanes / kQueries keys.
// `width` is a multiple of kStep.
template <int kQueries, class T>
[[gnu::always_inline]] inline void tile(float* out, int64_t stride, const Packed<T>* queries,
                                        const T* const* keys, int64_t offset, int64_t width) {
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
    std::memcpy(out + q * stride, reinterpret_cast<const float*>(&all) + q * kKeys,
                kKeys * sizeof(float));
}

// f(i, size) for tiles of up to kMost of `count` rows: `size` is a compile-time constant.
template <int kMost, class F>
void each_tile(int64_t count, F&& f) {
  int64_t i = 0;
  if constexpr (kMost >= 4)
    for (; i + 4 <= count; i += 4) f(i, std::integral_constant<int, 4>());
  if constexpr (kMost >= 2)
    for (; i + 2 <= count; i += 2) f(i, std::integral_constant<int, 2>());
  for (; i < count; ++i) f(i, std::integral_constant<int, 1>());
}

// out[q][k] = queries[q] · (keys[k] + offset) for `count` rows and the next kLanes keys.
template <class T>
void rows(float* out, int64_t stride, const Packed<T>* queries, int64_t count,
          const T* const* keys, int64_t offset, int64_t width) {
  each_tile<kQuarters>(count, [&](int64_t i, auto size) {
    for (int64_t k = 0; k < kLanes; k += kLanes / size())
      tile<size()>(out + i * stride + k, stride, queries + i * width, keys + k, offset, width);
  });
}

}  // namespace inferd::dots
