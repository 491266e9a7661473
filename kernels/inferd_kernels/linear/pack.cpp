// Rows of a weight into the layout of weight.h.

#include <algorithm>
#include <cstring>
#include <type_traits>

#include "cpu/simd.h"
#include "linear/transpose.h"
#include "linear/weight.h"

namespace inferd {
namespace {

constexpr int64_t kBlock = 64;  // inputs that are packed at a time, of all rows of a panel

// `count` numbers, rounded; then zeros up to kBlock.
template <class T, class S>
void convert(T* out, const S* in, int64_t count) {
  int64_t i = 0;
  if constexpr (sizeof(S) == sizeof(T) && std::is_same_v<S, T>) {
    std::memcpy(out, in, count * sizeof(T));
    i = count;
  } else {
    for (; i + kLanes <= count; i += kLanes) store(out + i, load(in + i));
    for (; i < count; ++i) out[i] = from_float<T>(to_float(in[i]));
  }
  for (; i < kBlock; ++i) out[i] = T{};
}

// Rows of one panel, its outputs `first` … first + rows.
template <class T, class S>
void pack_panel(const WeightArgs& weight, T* panel, const S* source, int64_t stride, int64_t first,
                int64_t rows) {
  alignas(64) T block[kPanel * kBlock];
  for (int64_t i = 0; i < weight.in; i += kBlock) {
    const int64_t count = std::min(kBlock, weight.in - i);
    for (int64_t r = 0; r < rows; ++r) convert(block + r * kBlock, source + r * stride + i, count);
    T* out = panel + i * kPanel;
    if constexpr (std::is_same_v<T, f16>)
      transpose_plain(out + first, kPanel, block, kBlock, rows, count);
    else  // numbers, or pairs of them
      transpose(reinterpret_cast<uint32_t*>(out) + first, kPanel,
                reinterpret_cast<const uint32_t*>(block), kBlock * sizeof(T) / 4, rows,
                (count * sizeof(T) + 3) / 4);
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
