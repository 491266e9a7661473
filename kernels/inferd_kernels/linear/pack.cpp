// Rows of a weight into the layout of weight.h.

#include <algorithm>
#include <cstring>
#include <type_traits>

#include "cpu/simd.h"
#include "linear/transpose.h"
#include "linear/weight.h"

namespace inferd {
namespace {

constexpr int64_t kBlock = 256;  // inputs that are packed at a time, of all rows of a panel

// `count` numbers, rounded, and a zero behind them.
template <class T, class S>
void convert(T* out, const S* in, int64_t count) {
  if (count < kBlock) out[count] = T{};
  if constexpr (std::is_same_v<S, T>) {
    std::memcpy(out, in, count * sizeof(T));
  } else {
    int64_t i = 0;
    for (; i + kLanes <= count; i += kLanes) store(out + i, load(in + i));
    if (i < count) store_n(out + i, load_n(in + i, count - i), count - i);
  }
}

// Outputs `first` … of a panel, from `rows` rows of words `stride` apart; a word is one number of
// fp32, two of bf16, which stay together, or two of fp16, which do not.
template <class T>
void put(T* panel, const uint32_t* in, int64_t stride, int64_t first, int64_t rows, int64_t words) {
  if constexpr (!std::is_same_v<T, f16>) {
    transpose(reinterpret_cast<uint32_t*>(panel) + first, kPanel, in, stride, rows, words);
  } else {
    alignas(64) uint32_t pairs[kBlock / 2 * kPanel];
    transpose(pairs, kPanel, in, stride, rows, words);
    for (int64_t k = 0; k < words; ++k)
      for (int64_t half = 0; half < 2; ++half) {
        uint16_t* out = reinterpret_cast<uint16_t*>(panel) + (2 * k + half) * kPanel + first;
        for (int64_t r = 0; r < rows; ++r)
          out[r] = static_cast<uint16_t>(pairs[k * kPanel + r] >> (16 * half));
      }
  }
}

// An odd last input of fp16 has no word to itself.
template <class T>
void put_last(T* panel, const T* last, int64_t stride, int64_t first, int64_t rows) {
  for (int64_t r = 0; r < rows; ++r) panel[first + r] = last[r * stride];
}

// Rows of one panel, its outputs `first` … first + rows.
template <class T, class S>
void pack_panel(const WeightArgs& weight, T* panel, const S* source, int64_t stride, int64_t first,
                int64_t rows) {
  constexpr int64_t per = 4 / sizeof(T);  // numbers in a word
  alignas(64) T block[kPanel * kBlock];
  const bool words = stride % per == 0 && reinterpret_cast<uintptr_t>(source) % 4 == 0;
  for (int64_t i = 0; i < weight.in; i += kBlock) {
    const int64_t count = std::min(kBlock, weight.in - i), whole = count / per;
    T* out = panel + i * kPanel;
    if constexpr (std::is_same_v<S, T>) {
      if (words && count % per == 0) {
        const auto* in = reinterpret_cast<const uint32_t*>(source + i);
        put(out, in, stride / per, first, rows, whole);
        continue;
      }
    }
    for (int64_t r = 0; r < rows; ++r) convert(block + r * kBlock, source + r * stride + i, count);
    const auto* in = reinterpret_cast<const uint32_t*>(block);
    const bool odd = count % per != 0, apart = std::is_same_v<T, f16>;
    put(out, in, kBlock / per, first, rows, whole + (odd && !apart));
    if (odd && apart) put_last(out + (count - 1) * kPanel, block + count - 1, kBlock, first, rows);
  }
}

DType element(WeightFormat format) { return static_cast<DType>(format); }

}  // namespace

void pack(const PackArgs& args, int64_t rows, Team& team) {
  const int64_t before = args.first % kPanel;  // so that no two threads write to one panel
  const int64_t panel = args.first / kPanel;
  with_type(element(args.weight.format), [&](auto to) {
    with_type(args.dtype, [&](auto from) {
      using T = decltype(to);
      using S = decltype(from);
      T* data = static_cast<T*>(args.weight.data) + panel * panel_size(args.weight);
      const S* source = static_cast<const S*>(args.source);
      team.each(before + rows, kPanel, [&](int64_t begin, int64_t end) {
        const int64_t skipped = begin == 0 ? before : 0;
        pack_panel(args.weight, data + begin / kPanel * panel_size(args.weight),
                   source + (begin + skipped - before) * args.stride, args.stride, skipped,
                   end - begin - skipped);
      });
    });
  });
}

}  // namespace inferd

INFERD_OPERATION(pack, PackArgs)
