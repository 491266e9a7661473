#pragma once

#include <cstdint>

#include "linear/weight.h"

namespace inferd {

// out[t] = scale * weight[ids[t]]; see embedding/__init__.py. Where `table` is not null it is the
// weight, row-major, its rows `stride` elements apart.
struct EmbeddingArgs {
  WeightArgs weight;
  const void* table;
  const void* ids;
  void* out;
  int64_t width;
  int64_t stride;
  int64_t out_stride;
  float scale;
  int32_t wide_ids;  // int64 instead of int32
  DType dtype;
};

void embedding(const EmbeddingArgs& args, int64_t rows, Team& team);

}  // namespace inferd
