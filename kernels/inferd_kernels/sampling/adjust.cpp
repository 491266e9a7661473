#include <algorithm>
#include <cstring>

#include "sampling/blocks.h"
#include "sampling/changes.h"

namespace inferd {
namespace {

bool all_inside(const int64_t* ids, int64_t n, int64_t vocab) {
  return std::all_of(ids, ids + n, [=](int64_t id) { return id >= 0 && id < vocab; });
}

float penalized(float x, int64_t count, const Adjustment& change) {
  x = x > 0.0f ? x / change.repetition : x * change.repetition;
  if (count == 0) return x;
  // The product is exact in float64, and rounded once.
  const double frequency = change.frequency;
  const float often = static_cast<float>(frequency * static_cast<float>(count));
  return x - often - change.presence;
}

}  // namespace

void copy_allowed(const float* x, float* out, int64_t begin, int64_t end,
                  const uint32_t* allowed) {
  if (allowed == nullptr) {
    std::memcpy(out + begin, x + begin, (end - begin) * sizeof *x);
    return;
  }
  for (int64_t i = begin; i < end; i += 32) {
    const uint32_t word = allowed[i / 32];
    const int count = static_cast<int>(std::min<int64_t>(32, end - i));
    if (word == 0) {
      std::fill_n(out + i, count, -kInfinity);
    } else {
      for (int k = 0; k < count; ++k) out[i + k] = word >> k & 1 ? x[i + k] : -kInfinity;
    }
  }
}

bool change_tokens(float* x, int64_t vocab, const Adjustment& change) {
  if (!all_inside(change.bias_ids, change.num_bias, vocab) ||
      !all_inside(change.masked_ids, change.num_masked, vocab) ||
      !all_inside(change.seen_ids, change.num_seen, vocab))
    return false;
  for (int64_t i = 0; i < change.num_bias; ++i) x[change.bias_ids[i]] += change.bias[i];
  for (int64_t i = 0; i < change.num_masked; ++i) x[change.masked_ids[i]] = -kInfinity;
  for (int64_t i = 0; i < change.num_seen; ++i) {
    float& logit = x[change.seen_ids[i]];
    logit = penalized(logit, change.seen_counts[i], change);
  }
  return true;
}

void adjust(const AdjustArgs& args, int64_t rows, Team& team) {
  const int64_t chunks = chunks_of(args.vocab);
  team.each(rows * chunks, 4, [&](int64_t first, int64_t last) {
    for (int64_t part = first; part < last; ++part) {
      const int64_t row = part / chunks, begin = part % chunks * kChunk;
      const Adjustment* change = args.rows[row];
      copy_allowed(args.logits + row * args.stride, args.out + row * args.vocab, begin,
                   std::min(begin + kChunk, args.vocab), change ? change->allowed : nullptr);
    }
  });
  team.each(rows, 1, [&](int64_t first, int64_t last) {
    for (int64_t row = first; row < last; ++row) {
      const Adjustment* change = args.rows[row];
      args.wrong[row] =
          change != nullptr && !change_tokens(args.out + row * args.vocab, args.vocab, *change);
    }
  });
}

}  // namespace inferd

INFERD_OPERATION(adjust, AdjustArgs)
