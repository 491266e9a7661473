// Products with int8 weights; see linear/__init__.py for what they mean.
#pragma once

#include <cstdint>

#include "cpu/dtypes.h"
#include "cpu/team.h"

namespace inferd {

constexpr int64_t kPanel = 32;  // outputs that lie together
constexpr int64_t kMaxGroup = 1024;  // inputs that share a scale

// A weight [out, in]: for each panel of outputs [in / 4][32][4] bytes w ^ 0x80, `in` filled up to a
// multiple of 4 and `out` to one of 32 with zeros; and for each panel [groups][32] scales, each of
// `group` inputs, a multiple of 4.
struct Int8Weight {
  uint8_t* data;
  float* scales;
  int64_t out;
  int64_t in;
  int64_t group;

  int64_t panels() const { return (out + kPanel - 1) / kPanel; }
  int64_t words() const { return (in + 3) / 4; }
  int64_t groups() const { return (in + group - 1) / group; }
  uint8_t* panel_data(int64_t panel) const { return data + panel * words() * 4 * kPanel; }
  float* panel_scales(int64_t panel) const { return scales + panel * groups() * kPanel; }
};

// out[t, o] = sum_i q(x[t])[i] * weight[o, i] + bias[o]. Strides count elements.
struct Int8Linear {
  Int8Weight weight;
  const void* x;
  const void* bias;  // of x's type, or null
  void* out;
  int64_t x_stride;
  int64_t out_stride;
  DType x_dtype;
  DType out_dtype;
};

void linear_int8(const Int8Linear& args, int64_t rows, Team& team);

// Quantises `rows` rows of a float weight into rows `first` … of a packed one. Where `given` is not
// null the source holds int8 instead, and [rows, given_groups] scales that are repeated over the
// groups of the packed weight.
struct Int8PackArgs {
  Int8Weight weight;
  const void* source;
  const float* given;
  int64_t stride;
  int64_t given_groups;
  int64_t first;
  DType dtype;
};

void int8_pack(const Int8PackArgs& args, int64_t rows, Team& team);

// out = scale * weight[row], as floats.
template <class T>
void int8_row(const Int8Weight& weight, int64_t row, float scale, T* out);

}  // namespace inferd
