#pragma once

#include <cstdint>

#include "cpu/dtypes.h"
#include "cpu/team.h"

namespace inferd {

enum class Activation : int32_t { silu = 0, gelu = 1, gelu_tanh = 2 };

// See activation/__init__.py: rows of 2 * width columns to rows of width. Strides count elements.
struct GatedArgs {
  const void* gate_up;
  void* out;
  int64_t stride;
  int64_t out_stride;
  int64_t width;
  Activation kind;
  DType dtype;
};

void gated(const GatedArgs& args, int64_t rows, Team& team);

}  // namespace inferd
