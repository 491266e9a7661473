// Input rows of `linear` in the order in which tiles read them.
#pragma once

#include <cstring>
#include <type_traits>

#include "linear/cpu.h"
#include "linear/tile.h"
#include "linear/transpose.h"

namespace inferd {

// Tiles of up to kMaxRows rows, of about the same number; in a tile for each step the rows'
// numbers side by side: pairs of bfloat16 where the processor multiplies those, else fp32.
class Inputs {
 public:
  Inputs(const LinearArgs& args, int64_t first, int64_t rows)
      : args_(args), first_(first), rows_(rows), tiles_((rows + kMaxRows - 1) / kMaxRows) {
    const bool bf = args.weight.format == WeightFormat::bf16;
    steps_ = bf ? (args.weight.in + 1) / 2 : args.weight.in;
    numbers_ = bf ? steps_ * Bf16::kInputs : steps_;
  }

  int64_t tiles() const { return tiles_; }
  int64_t begin(int64_t tile) const { return first_ + tile * rows_ / tiles_; }
  int64_t steps() const { return steps_; }
  size_t size() const { return rows_ * numbers_; }  // of the memory that `use` is given
  void use(float* memory) { memory_ = memory; }
  const float* of(int64_t tile) const { return memory_ + (begin(tile) - first_) * numbers_; }

  void fill(int64_t tile) {
    with_type(args_.x_dtype, [&](auto zero) { fill_as(decltype(zero){}, tile); });
  }

 private:
  static constexpr int64_t kBlock = 256;  // numbers of each row that are converted at a time

  template <class T>
  void fill_as(T, int64_t tile) {
    constexpr bool pairs = std::is_same_v<T, bf16> && Bf16::kInputs == 1;
    constexpr int64_t per = pairs ? 2 : 1;  // inputs in a number
    const int64_t first = begin(tile), rows = begin(tile + 1) - first;
    const T* x = static_cast<const T*>(args_.x) + first * args_.x_stride;
    alignas(64) uint32_t block[kMaxRows * kBlock];
    uint32_t* out = reinterpret_cast<uint32_t*>(const_cast<float*>(of(tile)));
    for (int64_t k = 0; k < numbers_; k += kBlock, out += kBlock * rows) {
      const int64_t count = std::min(kBlock, numbers_ - k);
      const int64_t there = std::min(count * per, args_.weight.in - k * per);
      for (int64_t r = 0; r < rows; ++r)
        convert(block + r * kBlock, x + r * args_.x_stride + k * per, there);
      transpose(out, rows, block, kBlock, rows, count);
    }
  }

  // `count` inputs as numbers, and a zero behind them.
  template <class T>
  static void convert(uint32_t* out, const T* x, int64_t count) {
    if constexpr (std::is_same_v<T, float> || (std::is_same_v<T, bf16> && Bf16::kInputs == 1)) {
      if (count % 2) out[count * sizeof(T) / 4] = 0;
      std::memcpy(out, x, count * sizeof(T));
    } else {
      float* wide = reinterpret_cast<float*>(out);
      int64_t i = 0;
      for (; i + kLanes <= count; i += kLanes) store(wide + i, load(x + i));
      if (i < count) store(wide + i, load_n(x + i, count - i));
      else if (count < kBlock) wide[count] = 0;
    }
  }

  const LinearArgs& args_;
  const int64_t first_, rows_, tiles_;
  int64_t steps_, numbers_;
  float* memory_ = nullptr;
};

}  // namespace inferd
