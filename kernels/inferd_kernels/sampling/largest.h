// The largest values of a row, found by way of the maxima of its columns.
#pragma once

#include <algorithm>

#include "sampling/blocks.h"
#include "sampling/select.h"

namespace inferd {

// A row of logits, and the largest of each column of each of its tiles [tiles, kWidth].
struct Logits {
  const float* x;
  const float* maxima;
  int64_t vocab;
};

// The bits of |y|. Values are 0 or less, so the larger one has the smaller magnitude.
inline uint32_t magnitude(float y) {
  uint32_t bits;
  std::memcpy(&bits, &y, sizeof bits);
  return bits & 0x7fffffff;
}

inline float value(uint32_t magnitude) {
  float y;
  std::memcpy(&y, &magnitude, sizeof y);
  return -y;
}

// Calls f(value, token) in the order of tokens for what is at least `least()`, which may rise on
// the way.
template <class Least, class F>
void each_from(const Logits& logits, const View& view, Least&& least, F&& f) {
  for (int64_t tile = 0; tile < tiles_of(logits.vocab); ++tile) {
    if (at_least(view(load_block(logits.maxima + tile * kWidth)), least()) == 0) continue;
    const int64_t end = std::min((tile + 1) * kTile, logits.vocab);
    each_block(logits.x, tile * kTile, end, [&](const Block& block, int64_t i) {
      const Block y = view(block);
      uint32_t bits = at_least(y, least());
      if (bits == 0) return;
      if (end - i < kWidth) bits &= (1u << (end - i)) - 1;
      each_bit(bits, [&](int k) { f(y[k], i + k); });
    });
  }
}

// Not above the k-th largest value: the k-th largest maximum. `list` has room for all of these.
inline float bound_of_largest(const Logits& logits, const View& view, int64_t k, uint32_t* list) {
  const int64_t columns = tiles_of(logits.vocab) * kWidth;
  if (k > columns) return -kInfinity;
  for (int64_t i = 0; i < columns; i += kWidth) {
    const Block y = view(load_block(logits.maxima + i));
    for (int p = 0; p < kParts; ++p) {
      const u32v bits = (u32v)y.part[p] & 0x7fffffff;
      std::memcpy(list + i + p * kLanes, &bits, sizeof bits);
    }
  }
  return value(kth_smallest(list, columns, k));
}

// The k-th largest value, k <= vocab. `list` has room for all of them.
inline float kth_largest(const Logits& logits, const View& view, int64_t k, uint32_t* list) {
  const float least = bound_of_largest(logits, view, k, list);
  int64_t n = 0;
  each_from(logits, view, [=] { return least; },
            [&](float y, int64_t) { list[n++] = magnitude(y); });
  return value(kth_smallest(list, n, k));
}

}  // namespace inferd
