// What `linear` writes: sums with their bias, rounded once.
#pragma once

#include <algorithm>
#include <cstdint>

#include "cpu/simd.h"
#include "linear/cpu.h"

namespace inferd {

template <class T, class B>
inline void put(T* out, const float* sums, const B* bias, int64_t count) {
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes)
    store(out + i, bias == nullptr ? load(sums + i) : load(sums + i) + load(bias + i));
  const int64_t rest = count - i;
  if (rest == 0) return;
  f32v last = load(sums + i);
  if (bias != nullptr) last += load_n(bias + i, rest);
  store_n(out + i, last, rest);
}

// Rounds the sums of a tile and writes them where they belong.
inline void finish(const LinearArgs& args, int64_t row, int64_t rows, int64_t panel,
                   const float* sums) {
  const int64_t first = panel * kPanel, count = std::min(kPanel, args.weight.out - first);
  with_type(args.out_dtype, [&](auto out_zero) {
    with_type(args.x_dtype, [&](auto x_zero) {
      using T = decltype(out_zero);
      using B = decltype(x_zero);
      const B* bias = args.bias == nullptr ? nullptr : static_cast<const B*>(args.bias) + first;
      T* out = static_cast<T*>(args.out) + row * args.out_stride + first;
      for (int64_t r = 0; r < rows; ++r)
        put(out + r * args.out_stride, sums + r * kPanel, bias, count);
    });
  });
}

}  // namespace inferd
