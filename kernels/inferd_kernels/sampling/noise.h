// The noise of noise.py, to the bit.
#pragma once

#include <cmath>

#include "sampling/blocks.h"

namespace inferd {

constexpr uint64_t kGamma = 0x9e3779b97f4a7c15;

template <class T>  // uint64_t or u64v
inline T mix(T z) {
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

inline uint64_t stream_of(uint64_t seed, int64_t position) {
  return mix(mix(seed + kGamma) + (static_cast<uint64_t>(position) + 1) * kGamma);
}

// Uniform numbers of kWide tokens from `token` on.
inline f64v uniform(uint64_t stream, int64_t token) {
  u64v z;
  for (int i = 0; i < kWide; ++i) z[i] = static_cast<uint64_t>(i) * kGamma;
  z = mix(z + (stream + (static_cast<uint64_t>(token) + 1) * kGamma));
  // Under the exponent of 2^52 the integer's bits are the number's.
  const f64v shifted = (f64v)((z >> 12) | 0x4330000000000000);
  return (shifted - 4503599627370496.0 + 0.5) * 0x1p-52;
}

// When a token of this weight arrives in the exponential race.
inline double finish(double u, double weight) { return -std::log1p(-u) / weight; }

}  // namespace inferd
