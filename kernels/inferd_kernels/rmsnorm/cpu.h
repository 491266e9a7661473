#pragma once

#include <cstdint>

#include "cpu/dtypes.h"
#include "cpu/team.h"

namespace inferd {

// See rmsnorm/__init__.py. Where `residual` is null, out = rmsnorm(x); else residual += alpha * x
// first, and out = rmsnorm(residual). Strides count elements; `groups` normalised spans of `width`
// lie one after another in each row.
struct RmsnormArgs {
  const void* x;
  void* residual;
  void* out;
  const float* weight;
  int64_t x_stride;
  int64_t residual_stride;
  int64_t out_stride;
  int64_t groups;
  int64_t width;
  float eps;
  float alpha;
  DType dtype;
};

void rmsnorm(const RmsnormArgs& args, int64_t rows, Team& team);

}  // namespace inferd
