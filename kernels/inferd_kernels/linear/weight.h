// Weights as `linear` and `embedding` read them, and the operation that packs them.
#pragma once

#include <cstdint>

#include "cpu/dtypes.h"
#include "cpu/team.h"

namespace inferd {

constexpr int64_t kPanel = 32;  // outputs that lie together

enum class WeightFormat : int32_t { f32 = 0, bf16 = 1, f16 = 2, int8 = 3 };

// A weight [out, in] in panels of 32 outputs, the last one filled up with zeros:
//   f32, f16: [panel][in][32]
//   bf16: [panel][pairs][32][2], a pair being two inputs; an odd last one has a zero beside it
//   int8: see int8.h; only there `scales` and `group` are used
struct WeightArgs {
  void* data;
  float* scales;
  int64_t out;
  int64_t in;
  int64_t group;
  WeightFormat format;

  int64_t panels() const { return (out + kPanel - 1) / kPanel; }
};

// Elements of one panel.
inline int64_t panel_size(const WeightArgs& weight) {
  const bool pairs = weight.format == WeightFormat::bf16;
  return (pairs ? (weight.in + 1) / 2 * 2 : weight.in) * kPanel;
}

// Rounds `rows` rows of a source, `stride` elements apart, to the weight's type and packs them as
// its outputs `first` …; not for int8.
struct PackArgs {
  WeightArgs weight;
  const void* source;
  int64_t stride;
  int64_t first;
  DType dtype;
};

void pack(const PackArgs& args, int64_t rows, Team& team);

}  // namespace inferd
