#pragma once

#include <cstdint>
#include <cstring>

#include "cpu/team.h"

namespace inferd {

// See kv_write/__init__.py. Strides and sizes count bytes; `slots` has one entry for each row.
struct KvWriteArgs {
  const void* k;
  const void* v;
  void* k_cache;
  void* v_cache;
  const int64_t* slots;
  int64_t k_stride;
  int64_t k_head_stride;
  int64_t v_stride;
  int64_t v_head_stride;
  int64_t heads;
  int64_t head_bytes;
};

// One head of one row, keys and values.
inline void write_head(const KvWriteArgs& args, int64_t row, int64_t head) {
  const int64_t to = (args.slots[row] * args.heads + head) * args.head_bytes;
  const char* k = static_cast<const char*>(args.k);
  const char* v = static_cast<const char*>(args.v);
  std::memcpy(static_cast<char*>(args.k_cache) + to,
              k + row * args.k_stride + head * args.k_head_stride, args.head_bytes);
  std::memcpy(static_cast<char*>(args.v_cache) + to,
              v + row * args.v_stride + head * args.v_head_stride, args.head_bytes);
}

void kv_write(const KvWriteArgs& args, int64_t rows, Team& team);

}  // namespace inferd
