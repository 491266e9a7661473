// Symmetric quantisation of one group of numbers, the same for weights and activations.
#pragma once

#include <cstdint>
#include <cstring>

#include "cpu/simd.h"

namespace inferd {

typedef int8_t i8v __attribute__((vector_size(kLanes)));

constexpr float kTiny = 0x1p-100f;  // smaller groups are zero: 127 / them would be no float

struct Quantized {
  float scale;
  int32_t sum;  // of q
};

// q[i] = round(x[i] * (127 / max |x|)), ties to even, and scale = max |x| / 127, so that
// x[i] is about scale * q[i]. Where one is not finite, the scale is NaN and q zero.
template <class T>
inline Quantized quantize(const T* x, int64_t n, int8_t* q) {
  const int64_t whole = n - n % kLanes;
  i32v high{};
  const auto widest = [&](f32v value) {  // as bits: the order of numbers, and NaN above all
    const i32v bits = (i32v)value & 0x7fffffff;
    high = bits > high ? bits : high;
  };
  for (int64_t i = 0; i < whole; i += kLanes) widest(load(x + i));
  if (whole < n) widest(load_n(x + whole, n - whole));
  int32_t bits = high[0];
  for (int i = 1; i < kLanes; ++i) bits = high[i] > bits ? high[i] : bits;
  float most;
  std::memcpy(&most, &bits, sizeof most);
  if (bits >= 0x7f800000 || most < kTiny) {
    std::memset(q, 0, n);
    return {bits >= 0x7f800000 ? __builtin_nanf("") : 0.0f, 0};
  }
  const float inverse = 127.0f / most;
  i32v total{};
  const auto rounded = [&](f32v value) {  // added to 1.5 * 2^23 in one rounding
    const i32v whole_number = (i32v)fma(value, splat(inverse), splat(12582912.0f)) - 0x4b400000;
    total += whole_number;
    return __builtin_convertvector(whole_number, i8v);
  };
  for (int64_t i = 0; i < whole; i += kLanes) {
    const i8v bytes = rounded(load(x + i));
    std::memcpy(q + i, &bytes, sizeof bytes);
  }
  if (whole < n) {
    const i8v bytes = rounded(load_n(x + whole, n - whole));
    std::memcpy(q + whole, &bytes, n - whole);
  }
  int32_t sum = 0;
  for (int i = 0; i < kLanes; ++i) sum += total[i];
  return {most / 127.0f, sum};
}

}  // namespace inferd
