#pragma once

#include <cstdint>

#include "cpu/dtypes.h"
#include "cpu/team.h"
#include "kv_write/cpu.h"

namespace inferd {

// See rope/__init__.py. Strides count elements; `half` is the number of angles of a position.
// Where `kv.slots` is not null, `kv.k` is `k`, and the turned keys and the values go to the cache.
struct RopeArgs {
  void* q;
  void* k;
  const int64_t* positions;
  const float* cos;
  const float* sin;
  int64_t q_stride;
  int64_t q_head_stride;
  int64_t k_stride;
  int64_t k_head_stride;
  int64_t q_heads;
  int64_t k_heads;
  int64_t half;
  KvWriteArgs kv;
  int64_t dtype;
};

void rope(const RopeArgs& args, int64_t rows, Team& team);

}  // namespace inferd
