// Weights in int8; see linear/__init__.py for what they mean.
#pragma once

#include <cstdint>

#include "linear/cpu.h"
#include "linear/weight.h"

namespace inferd {

constexpr int64_t kMaxGroup = 1024;  // inputs that share a scale; a multiple of 4

// A weight [out, in]. For each panel of outputs, [in / 4][32][4] bytes w ^ 0x80, `in` filled up to
// a multiple of 4 with zeros; and for each panel [groups][32] scales.
struct Int8Weight {
  uint8_t* data;
  float* scales;
  int64_t out;
  int64_t in;
  int64_t group;

  explicit Int8Weight(const WeightArgs& args)
      : data(static_cast<uint8_t*>(args.data)),
        scales(args.scales),
        out(args.out),
        in(args.in),
        group(args.group) {}

  int64_t panels() const { return (out + kPanel - 1) / kPanel; }
  int64_t words() const { return (in + 3) / 4; }
  int64_t groups() const { return (in + group - 1) / group; }
  uint8_t* panel_data(int64_t panel) const { return data + panel * words() * 4 * kPanel; }
  float* panel_scales(int64_t panel) const { return scales + panel * groups() * kPanel; }
};

// `linear` for a weight in int8.
void linear_int8(const LinearArgs& args, int64_t rows, Team& team);

// out = scale * weight[row], as floats.
template <class T>
void int8_row(const Int8Weight& weight, int64_t row, float scale, T* out);

// Makes rows `first` … of a weight of `rows` rows of a source, `stride` elements apart: of floats;
// or, where `given` is not null, of int8 with [rows][in / given_group] scales.
struct Int8PackArgs {
  WeightArgs weight;
  const void* source;
  const float* given;
  int64_t stride;
  int64_t given_group;
  int64_t first;
  DType dtype;
};

void int8_pack(const Int8PackArgs& args, int64_t rows, Team& team);

}  // namespace inferd
