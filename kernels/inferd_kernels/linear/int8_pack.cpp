// Float weights, or int8 ones of a checkpoint, into the layout of int8.h; and rows back.

#include "linear/int8.h"
#include "linear/int8_quantize.h"

namespace inferd {
namespace {

// Bytes i … i + n of output `lane` of a panel; n is a multiple of 4, or the row's end.
void put_bytes(uint8_t* panel, int64_t lane, int64_t i, const int8_t* q, int64_t n) {
  uint8_t* out = panel + i * kPanel + lane * 4;
  for (; n > 0; n -= 4, q += 4, out += 4 * kPanel) {
    uint32_t word = 0;
    std::memcpy(&word, q, n < 4 ? n : 4);
    word ^= 0x80808080;
    std::memcpy(out, &word, sizeof word);
  }
}

template <class T>
void pack_row(const Int8Weight& weight, int64_t row, const T* source) {
  alignas(64) int8_t q[kMaxGroup];
  const int64_t panel = row / kPanel, lane = row % kPanel;
  for (int64_t g = 0, i = 0; i < weight.in; ++g, i += weight.group) {
    const int64_t n = std::min(weight.group, weight.in - i);
    weight.panel_scales(panel)[g * kPanel + lane] = quantize(source + i, n, q).scale;
    put_bytes(weight.panel_data(panel), lane, i, q, n);
  }
}

void copy_row(const Int8Weight& weight, int64_t row, const int8_t* source, const float* given,
              int64_t given_group) {
  const int64_t panel = row / kPanel, lane = row % kPanel, groups = weight.groups();
  put_bytes(weight.panel_data(panel), lane, 0, source, weight.in);
  for (int64_t g = 0; g < groups; ++g)
    weight.panel_scales(panel)[g * kPanel + lane] = given[g * weight.group / given_group];
}

}  // namespace

void int8_pack(const Int8PackArgs& args, int64_t rows, Team& team) {
  const Int8Weight weight(args.weight);
  const int64_t given_groups = (weight.in + args.given_group - 1) / args.given_group;
  const int64_t before = args.first % kPanel;  // so that no two threads write to one panel
  team.each(before + rows, kPanel, [&](int64_t begin, int64_t end) {
    for (int64_t r = std::max(begin, before) - before; r < end - before; ++r) {
      const int64_t row = args.first + r;
      if (args.given != nullptr) {
        copy_row(weight, row, static_cast<const int8_t*>(args.source) + r * args.stride,
                 args.given + r * given_groups, args.given_group);
        continue;
      }
      with_type(args.dtype, [&](auto zero) {
        using T = decltype(zero);
        pack_row(weight, row, static_cast<const T*>(args.source) + r * args.stride);
      });
    }
  });
}

template <class T>
void int8_row(const Int8Weight& weight, int64_t row, float scale, T* out) {
  const int64_t panel = row / kPanel, lane = row % kPanel;
  const uint8_t* data = weight.panel_data(panel) + lane * 4;
  const float* scales = weight.panel_scales(panel) + lane;
  for (int64_t g = 0, i = 0; i < weight.in; ++g) {
    const float factor = scales[g * kPanel];
    for (const int64_t end = std::min(i + weight.group, weight.in); i < end; ++i) {
      const int32_t w = static_cast<int32_t>(data[i / 4 * 4 * kPanel + i % 4]) - 128;
      out[i] = from_float<T>(static_cast<float>(w) * factor * scale);
    }
  }
}

template void int8_row(const Int8Weight&, int64_t, float, float*);
template void int8_row(const Int8Weight&, int64_t, float, bf16*);
template void int8_row(const Int8Weight&, int64_t, float, f16*);

}  // namespace inferd

INFERD_OPERATION(int8_pack, Int8PackArgs)
