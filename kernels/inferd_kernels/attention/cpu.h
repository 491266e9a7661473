#pragma once

#include <cstdint>

#include "cpu/dtypes.h"
#include "cpu/team.h"

namespace inferd {

// What changes from step to step; pointers and bounds as attention/__init__.py has them.
struct AttentionBatch {
  const int32_t* block_tables;
  const int32_t* cu_seqlens_q;
  const int32_t* seq_lens;
  int64_t num_seqs;
  int64_t max_blocks;  // from one sequence's block table to the next
  int64_t max_seqlen_q;
  int64_t max_seqlen_k;
};

// See attention/__init__.py. Strides count elements from row to row; a row's heads lie one after
// another. The number of rows is told by the batch.
struct AttentionArgs {
  const void* q;
  const void* k_cache;
  const void* v_cache;
  void* out;
  const AttentionBatch* batch;
  int64_t q_stride;
  int64_t out_stride;
  int64_t heads;
  int64_t kv_heads;
  int64_t head_dim;
  int64_t block_size;
  int64_t window;
  float scale;
  float softcap;
  DType dtype;
};

void attention(const AttentionArgs& args, int64_t rows, Team& team);

}  // namespace inferd
