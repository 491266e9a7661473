#pragma once

#include <cstdint>

#include "cpu/dtypes.h"
#include "cpu/team.h"

namespace inferd {

// The second factor of a projection, transposed: [rank][width].
struct LoraPart {
  const void* b;
  int64_t offset;  // its first column in y
  int64_t width;
  int64_t rank;
  DType dtype;
};

// What a slot holds: a is [rank][in], of x's dtype. Where a is null, nothing is added.
struct LoraSlot {
  const void* a;
  const LoraPart* parts;
  int64_t num_parts;
  int64_t rank;  // of all parts
};

// What changes from step to step: segment i has the rows rows[starts[i]] …
// rows[starts[i + 1] - 1], and what slots[i] holds. No row is in two segments.
struct LoraBatch {
  const int32_t* rows;
  const int32_t* starts;
  const int32_t* slots;
  int64_t num_segments;
};

// See lora/__init__.py. Of a decoder that runs the same buffers again and again, only what `batch`
// and `slots` point to changes; without segments nothing is done. Strides count elements from row
// to row. Where ids is not null, it is lora_embedding: a is [rank][in] for `in` tokens, and x is not
// read; x_dtype is a's.
struct LoraArgs {
  void* y;
  const void* x;
  const int64_t* ids;
  const LoraBatch* batch;
  const LoraSlot* slots;
  int64_t in;
  int64_t out;
  int64_t x_stride;
  int64_t y_stride;
  DType x_dtype;
  DType y_dtype;
};

void lora(const LoraArgs& args, int64_t rows, Team& team);

}  // namespace inferd
