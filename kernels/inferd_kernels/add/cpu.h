#pragma once

#include <cstdint>

#include "cpu/dtypes.h"
#include "cpu/team.h"

namespace inferd {

// residual += alpha * x. Strides count elements.
struct AddArgs {
  const void* x;
  void* residual;
  int64_t x_stride;
  int64_t residual_stride;
  int64_t width;
  float alpha;
  DType dtype;
};

void add(const AddArgs& args, int64_t rows, Team& team);

}  // namespace inferd
