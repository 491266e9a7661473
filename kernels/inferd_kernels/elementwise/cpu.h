#pragma once

#include <cstdint>

#include "cpu/dtypes.h"
#include "cpu/team.h"

namespace inferd {

// See elementwise/__init__.py. Strides count elements.
struct AddArgs {
  void* out;
  const void* x;
  int64_t out_stride;
  int64_t x_stride;
  int64_t width;
  float alpha;
  DType dtype;
};

struct ScaleArgs {
  void* x;
  int64_t stride;
  int64_t width;
  float factor;
  DType dtype;
};

void add(const AddArgs& args, int64_t rows, Team& team);
void scale(const ScaleArgs& args, int64_t rows, Team& team);

}  // namespace inferd
