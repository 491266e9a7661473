#pragma once

#include <cstdint>

#include "linear/weight.h"

namespace inferd {

// out[t, o] = sum_i x[t, i] * weight[o, i] + bias[o]; see linear/__init__.py. Strides count
// elements. x and bias are of the weight's type (int8: of any), out of that or fp32.
struct LinearArgs {
  WeightArgs weight;
  const void* x;
  const void* bias;  // may be null
  void* out;
  int64_t x_stride;
  int64_t out_stride;
  DType x_dtype;
  DType out_dtype;
};

void linear(const LinearArgs& args, int64_t rows, Team& team);

}  // namespace inferd
