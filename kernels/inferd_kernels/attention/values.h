// Sums of weighted values, a tile of them held in registers: each adds one position after another,
// whatever tile it is in.
#pragma once

#include <cstdint>

#include "cpu/simd.h"

namespace inferd {

constexpr int kValueVectors = kLanes == 8 ? 2 : 4;  // AVX2 has 16 registers, the others 32

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

}  // namespace inferd
