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

// How far along its stream a token's number lies.
inline uint64_t offset_of(int64_t token) { return (static_cast<uint64_t>(token) + 1) * kGamma; }

// The offsets of `token` and those that follow it.
inline u64v offsets_from(int64_t token) {
  u64v steps;
  for (int i = 0; i < kWide; ++i) steps[i] = static_cast<uint64_t>(i) * kGamma;
  return steps + offset_of(token);
}

inline u64v offsets_of(const uint32_t* tokens) {
  typedef uint32_t u32h __attribute__((vector_size(2 * kLanes)));
  u32h narrow;
  std::memcpy(&narrow, tokens, sizeof narrow);
  return (__builtin_convertvector(narrow, u64v) + 1) * kGamma;
}

// Uniform numbers at these offsets.
inline f64v uniform(uint64_t stream, u64v offsets) {
  const u64v z = mix(offsets + stream);
  // Under the exponent of 2^52 the integer's bits are the number's.
  const f64v shifted = (f64v)((z >> 12) | 0x4330000000000000);
  return (shifted - 4503599627370496.0 + 0.5) * 0x1p-52;
}

// When a token of this weight arrives in the exponential race.
inline double finish(double u, double weight) { return -std::log1p(-u) / weight; }

}  // namespace inferd
