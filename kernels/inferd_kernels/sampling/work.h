// What is kept of the row that is being worked on.
#pragma once

#include <cstdint>
#include <type_traits>

#include "sampling/blocks.h"

namespace inferd {

// What is found in a chunk of a row.
struct Part {
  uint32_t worst_raw, worst;  // the largest magnitude's bits: above infinity's, there is a NaN
  double mass;
  int64_t ahead;
  double finish;
  int64_t token;
};

// What is found in a row.
struct State {
  int32_t health;
  int64_t token;
  View view;           // of what is drawn from
  View scored;         // of what is scored
  uint64_t stream;     // of noise
  double finish;       // of `token` in the race
  float least_value;   // the filters before top_p drop what is below
  float least_weight;  // and all of them
};

// Memory for the row that is being worked on.
struct Work {
  State* state;
  Part* parts;        // [chunks]
  uint8_t* live;      // [tiles]: 0 where all tokens have been dropped
  float* raw_maxima;  // [tiles, kWidth]: the largest of each column of a tile's blocks
  float* maxima;      // the same of the adjusted logits
  float* adjusted;    // [padded]
  float* weights;     // [padded]: relative to the likeliest token; 0 for what was dropped
  uint32_t* list;     // [2 * padded]

  static size_t bytes(int64_t vocab) { return Work().place(nullptr, vocab); }

  // Returns how many bytes it takes.
  size_t place(char* memory, int64_t vocab) {
    const int64_t tiles = tiles_of(vocab);
    size_t used = 0;
    const auto take = [&](auto*& array, int64_t count) {
      array = reinterpret_cast<std::remove_reference_t<decltype(array)>>(memory + used);
      used += (count * sizeof *array + 63) / 64 * 64;
    };
    take(state, 1);
    take(parts, chunks_of(vocab));
    take(live, tiles);
    take(raw_maxima, tiles * kWidth);
    take(maxima, tiles * kWidth);
    take(adjusted, tiles * kTile);
    take(weights, tiles * kTile);
    take(list, tiles * kTile * 2);
    return used;
  }
};

}  // namespace inferd
