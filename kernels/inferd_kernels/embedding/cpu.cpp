#include "embedding/cpu.h"

#include "cpu/simd.h"
#include "linear/int8.h"
#include "linear/int8.h"

namespace inferd {
namespace {

template <class T>
void copy_row(const EmbeddingArgs& args, int64_t id, T* out) {
  const T* row = static_cast<const T*>(args.table) + id * args.stride;
  int64_t i = 0;
  for (; i + kLanes <= args.width; i += kLanes) store(out + i, load(row + i) * args.scale);
  for (; i < args.width; ++i) out[i] = from_float<T>(to_float(row[i]) * args.scale);
}

template <class T>
void widen_row(const EmbeddingArgs& args, int64_t id, T* out) {
  int8_row(Int8Weight(args.weight), id, out);
  if (args.scale == 1.0f) return;
  for (int64_t i = 0; i < args.width; ++i) out[i] = from_float<T>(to_float(out[i]) * args.scale);
}

template <class T>
void unpack_row(const EmbeddingArgs& args, int64_t id, T* out) {
  const int64_t pair = args.weight.format == WeightFormat::bf16 ? 2 : 1;
  const T* panel = static_cast<const T*>(args.weight.data) + id / kPanel * panel_size(args.weight);
  const T* row = panel + id % kPanel * pair;
  for (int64_t i = 0; i < args.width; ++i)
    out[i] = from_float<T>(to_float(row[i / pair * pair * kPanel + i % pair]) * args.scale);
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
        if (args.table != nullptr)
          copy_row(args, id, out);
        else if (args.weight.format == WeightFormat::int8)
          int8_row(Int8Weight(args.weight), id, args.scale, out);
        else
          unpack_row(args, id, out);
      }
    });
  });
}

}  // namespace inferd

INFERD_OPERATION(embedding, EmbeddingArgs)
