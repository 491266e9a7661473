// Number types of tensors, as library.py numbers them, and their conversions.
#pragma once

#include <cstdint>
#include <cstring>

namespace inferd {

enum class DType : int32_t { f32 = 0, bf16 = 1, f16 = 2 };

struct bf16 {
  uint16_t bits;
};

using f16 = _Float16;

inline float to_float(float x) { return x; }
inline float to_float(f16 x) { return static_cast<float>(x); }
inline float to_float(bf16 x) {
  const uint32_t wide = static_cast<uint32_t>(x.bits) << 16;
  float y;
  std::memcpy(&y, &wide, sizeof y);
  return y;
}

// Round to nearest, ties to even; NaN stays NaN.
template <class T>
T from_float(float x);

template <>
inline float from_float<float>(float x) {
  return x;
}

template <>
inline f16 from_float<f16>(float x) {
  return static_cast<f16>(x);
}

template <>
inline bf16 from_float<bf16>(float x) {
  uint32_t wide;
  std::memcpy(&wide, &x, sizeof wide);
  if ((wide & 0x7fffffff) > 0x7f800000) return {static_cast<uint16_t>((wide >> 16) | 0x40)};
  return {static_cast<uint16_t>((wide + 0x7fff + ((wide >> 16) & 1)) >> 16)};
}

// Calls f with a value of the type that `dtype` names: f(float{}), f(bf16{}) or f(f16{}).
template <class F>
void with_type(DType dtype, F&& f) {
  switch (dtype) {
    case DType::f32:
      return f(float{});
    case DType::bf16:
      return f(bf16{});
    case DType::f16:
      return f(f16{});
  }
}

}  // namespace inferd
