#pragma once

#include <cstdint>

#include "cpu/team.h"

namespace inferd {

// See adjustments.py.
struct Adjustment {
  const int64_t* bias_ids;
  const float* bias;
  const int64_t* masked_ids;
  const uint32_t* allowed;  // null: all tokens are
  const int64_t* seen_ids;
  const int64_t* seen_counts;
  int64_t num_bias;
  int64_t num_masked;
  int64_t num_seen;
  float repetition;
  float presence;
  float frequency;
};

// Row n of `out` becomes that of `logits`, adjusted. Strides count elements.
struct AdjustArgs {
  const float* logits;
  float* out;
  const Adjustment* const* rows;  // null: no change
  int32_t* wrong;                 // [rows]: 1 where a token id lies outside the vocabulary
  int64_t stride;
  int64_t vocab;
};

void adjust(const AdjustArgs& args, int64_t rows, Team& team);

// A row's health; the first three as rows.py numbers them.
enum Health : int32_t { kHealthy, kNotFinite, kNothingLeft, kNoSuchToken };

// See rows.py. `token` is chosen already where it is not negative; `top` is negative where no
// scores are wanted; `scale` divides the adjusted logits that are scored, 0: raw ones are.
struct ChooseRow {
  uint64_t seed;
  int64_t position;
  const Adjustment* adjustment;  // null: no change
  int64_t token;
  int32_t greedy;
  float temperature;
  float top_p;
  float min_p;
  int32_t top_k;
  int32_t top;
  int32_t num_extra;
  float scale;
};

// Of a row that is not healthy only `tokens`, then 0, and `health` are written.
struct ChooseArgs {
  const float* logits;
  const ChooseRow* rows;
  const int64_t* extra;  // [rows, max_extra]: each row's num_extra tokens
  int64_t* tokens;
  int32_t* health;
  float* logprobs;
  int64_t* ranks;
  int64_t* top_ids;       // [rows, max_top]
  float* top_logprobs;    // the same
  float* extra_logprobs;  // [rows, max_extra]
  int64_t stride;
  int64_t vocab;
  int64_t max_top;
  int64_t max_extra;
};

void choose(const ChooseArgs& args, int64_t rows, Team& team);

}  // namespace inferd
