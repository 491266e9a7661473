#include "embedding/cpu.h"

#include <algorithm>
#include <cstring>

#include "cpu/simd.h"
#include "linear/int8.h"

namespace inferd {
namespace {

// A row of a packed weight, `step` apart in units of one input, or of two.
template <class U>
void gather(U* out, const U* in, int64_t step, int64_t count) {
  for (int64_t i = 0; i < count; ++i) std::memcpy(out + i, in + i * step, sizeof(U));
}

template <class T>
void unpack(const EmbeddingArgs& args, int64_t id, T* out) {
  const T* panel = static_cast<const T*>(args.weight.data) + id / kPanel * panel_size(args.weight);
  if (args.weight.format != WeightFormat::bf16)
    return gather(out, panel + id % kPanel, kPanel, args.width);
  const T* row = panel + 2 * (id % kPanel);
  gather(reinterpret_cast<uint32_t*>(out), reinterpret_cast<const uint32_t*>(row), kPanel,
         args.width / 2);
  if (args.width % 2) out[args.width - 1] = row[(args.width - 1) * kPanel];
}

template <class T>
void scale(T* row, int64_t width, float factor) {
  for (int64_t i = 0; i < width; i += kLanes) {
    const int64_t n = std::min<int64_t>(kLanes, width - i);
    store_n(row + i, load_n(row + i, n) * factor, n);
  }
}

template <class T>
void copy(const EmbeddingArgs& args, int64_t id, T* out) {
  if (args.table != nullptr)
    std::memcpy(out, static_cast<const T*>(args.table) + id * args.stride, args.width * sizeof(T));
  else
    unpack(args, id, out);
  if (args.scale != 1.0f) scale(out, args.width, args.scale);
}

}  // namespace

void embedding(const EmbeddingArgs& args, int64_t rows, Team& team) {
  with_type(args.dtype, [&](auto zero) {
    using T = decltype(zero);
    team.each(rows, 4, [&](int64_t begin, int64_t end) {
      for (int64_t t = begin; t < end; ++t) {
        const int64_t id = args.wide_ids ? static_cast<const int64_t*>(args.ids)[t]
                                         : static_cast<const int32_t*>(args.ids)[t];
        T* out = static_cast<T*>(args.out) + t * args.out_stride;
        if (args.table == nullptr && args.weight.format == WeightFormat::int8)
          int8_row(Int8Weight(args.weight), id, args.scale, out);
        else
          copy(args, id, out);
      }
    });
  });
}

}  // namespace inferd

INFERD_OPERATION(embedding, EmbeddingArgs)
