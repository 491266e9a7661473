// The softmax of a query's scores, a span of its context after the other.
#pragma once

#include <cstdint>

#include "cpu/simd.h"

namespace inferd {

constexpr float kNothing = -__builtin_inff();

// cap * tanh(x / cap); tanh as Cephes has it (Moshier, tanhf).
inline f32v soft_cap(f32v x, float cap) {
  const f32v y = x / cap, size = y < 0.0f ? -y : y, z = y * y;
  f32v p = z * -5.70498872745e-3f + 2.06390887954e-2f;
  p = p * z - 5.37397155531e-2f;
  p = p * z + 1.33314422036e-1f;
  p = p * z - 3.33332819422e-1f;
  const f32v far = 1.0f - 2.0f / (exp(size + size) + 1.0f);
  return (size < 0.625f ? p * z * y + y : (y < 0.0f ? -far : far)) * cap;
}

// What a query has seen of its context: the largest score, and relative to it the sum of the
// weights and of the weighted values.
struct Seen {
  float peak = kNothing;
  float total = 0.0f;
};

// Scores begin … end - 1 become weights; what lies beside them in their vectors becomes 0.
[[gnu::noinline]] inline Seen weigh(float* scores, int64_t begin, int64_t end, float scale,
                                    float cap) {
  i32v lane;
  for (int i = 0; i < kLanes; ++i) lane[i] = i;
  const int64_t first = begin / kLanes * kLanes;
  f32v peaks = splat(kNothing);
  for (int64_t i = first; i < end; i += kLanes) {
    f32v x = load(scores + i) * scale;
    if (cap != 0.0f) x = soft_cap(x, cap);
    const i32v from = lane + static_cast<int32_t>(i);
    x = from < static_cast<int32_t>(begin) ? splat(kNothing) : x;
    x = from < static_cast<int32_t>(end) ? x : splat(kNothing);
    peaks = max(peaks, x);
    store(scores + i, x);
  }
  const float peak = max(peaks);
  f32v totals{};
  for (int64_t i = first; i < end; i += kLanes) {
    const f32v x = exp(load(scores + i) - peak);
    totals += x;
    store(scores + i, x);
  }
  return {peak, sum(totals)};
}

// Adds what `more` tells, of later positions.
[[gnu::noinline]] inline void merge(Seen& seen, float* out, Seen more, const float* more_out,
                                    int64_t width) {
  const float peak = seen.peak > more.peak ? seen.peak : more.peak;
  if (peak == kNothing) return;
  const f32v keep = exp(splat(seen.peak - peak)), take = exp(splat(more.peak - peak));
  const f32v total = splat(seen.total) * keep + splat(more.total) * take;
  seen = {peak, total[0]};
  for (int64_t d = 0; d < width; d += kLanes)
    store(out + d, load(out + d) * keep + load(more_out + d) * take);
}

}  // namespace inferd
