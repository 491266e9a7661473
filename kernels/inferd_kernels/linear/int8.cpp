#include "linear/int8.h"

#include <utility>

#include "linear/int8_dot.h"
#include "linear/int8_quantize.h"
#include "linear/outputs.h"

namespace inferd {
namespace {

constexpr int kVectors = kPanel / kLanes;  // of a panel
constexpr int64_t kOwnInputs = 4096;  // fewer than that each thread quantises for itself
constexpr int64_t kPartBytes = 1 << 15;  // of weights, at least, in a part of the work

// The rows of one tile, quantised: for each four inputs the rows' quads side by side, then for each
// group their scales, and -128 * sum(q), where the sums of products begin.
struct Rows {
  Quad* quads;
  float* scales;
  int32_t* starts;
};

// Quantised activations, in tiles of up to kMaxRows rows of about the same number.
class Activations {
 public:
  Activations(const LinearArgs& args, const Int8Weight& weight, int64_t rows)
      : args_(args),
        rows_(rows),
        tiles_((rows + kMaxRows - 1) / kMaxRows),
        words_(weight.words()),
        groups_(weight.groups()),
        stride_((words_ * sizeof(Quad) + groups_ * 8) * kMaxRows) {}

  int64_t tiles() const { return tiles_; }
  int64_t begin(int64_t tile) const { return tile * rows_ / tiles_; }
  size_t bytes() const { return stride_ * tiles_; }
  void use(uint8_t* memory) { memory_ = memory; }

  Rows rows(int64_t tile) const {
    uint8_t* memory = memory_ + tile * stride_;
    const int64_t numbers = words_ * kMaxRows * sizeof(Quad), scales = groups_ * kMaxRows * 4;
    return {reinterpret_cast<Quad*>(memory), reinterpret_cast<float*>(memory + numbers),
            reinterpret_cast<int32_t*>(memory + numbers + scales)};
  }

  void fill(int64_t tile) const {
    const int64_t first = begin(tile), count = begin(tile + 1) - first;
    with_type(args_.x_dtype, [&](auto zero) {
      using T = decltype(zero);
      const T* x = static_cast<const T*>(args_.x) + first * args_.x_stride;
      for (int64_t r = 0; r < count; ++r) fill_row(x + r * args_.x_stride, rows(tile), r, count);
    });
  }

 private:
  template <class T>
  void fill_row(const T* x, const Rows& out, int64_t r, int64_t count) const {
    alignas(64) int8_t q[kMaxGroup + 4];
    const int64_t in = args_.weight.in, group = args_.weight.group;
    for (int64_t g = 0, i = 0; i < in; ++g, i += group) {
      const int64_t n = std::min(group, in - i), words = (n + 3) / 4;
      std::memset(q + n, 0, 4 * words - n);
      const Quantized got = quantize(x + i, n, q);
      for (int64_t k = 0; k < words; ++k) out.quads[(i / 4 + k) * count + r] = quad(q + 4 * k);
      out.scales[g * count + r] = got.scale;
      out.starts[g * count + r] = -128 * got.sum;
    }
  }

  const LinearArgs& args_;
  const int64_t rows_, tiles_, words_, groups_, stride_;
  uint8_t* memory_ = nullptr;
};

// Bytes by which weights are fetched before they are needed, as was measured: the longer the work on
// them takes, the fewer fetches the processor begins by itself.
constexpr int64_t ahead(int rows) { return rows == 1 ? 2048 : rows <= 4 ? 4096 : 8192; }

// Adds up R rows with C vectors of a panel's outputs; sums: [R][kPanel]. For each sum the groups
// come in their order, and inside of one the numbers are whole: R and C change no bit.
template <int R, int C>
void tile(const Int8Weight& weight, int64_t panel, int first, const Rows& x, float* sums) {
  const uint8_t* data = weight.panel_data(panel) + first * kLanes * 4;
  const float* scales = weight.panel_scales(panel) + first * kLanes;
  const Quad* quads = x.quads;
  const int64_t words = weight.words(), group = weight.group / 4;
  for (int64_t g = 0, k = 0; k < words; ++g) {
    i32v dots[R][C];
    for (int r = 0; r < R; ++r)
      for (int c = 0; c < C; ++c) dots[r][c] = i32v{} + x.starts[g * R + r];
    for (const int64_t end = std::min(k + group, words); k < end; ++k) {
      for (int i = 0; i < C * kLanes * 4; i += 64) __builtin_prefetch(data + ahead(R) + i);
      Weights w[C];
      for (int c = 0; c < C; ++c) w[c] = weights(data + c * kLanes * 4);
      for (int r = 0; r < R; ++r) {
        const Four four = splat(quads + r);
        for (int c = 0; c < C; ++c) dots[r][c] = dot(dots[r][c], w[c], four);
      }
      data += 4 * kPanel;
      quads += R;
    }
    for (int r = 0; r < R; ++r) {
      const float scale = x.scales[g * R + r];
      for (int c = 0; c < C; ++c) {
        float* sum = sums + r * kPanel + c * kLanes;
        const f32v factor = load(scales + g * kPanel + c * kLanes) * scale;
        store(sum, fma(__builtin_convertvector(dots[r][c], f32v), factor, load(sum)));
      }
    }
  }
}

template <int R>
void tiles(const Int8Weight& weight, int64_t panel, const Rows& x, float* sums) {
  constexpr int kColumns = R == 1 ? kVectors : 2;
  for (int first = 0; first < kVectors; first += kColumns)
    tile<R, kColumns>(weight, panel, first, x, sums + first * kLanes);
}

using Tiles = void (*)(const Int8Weight&, int64_t, const Rows&, float*);

template <int... R>
constexpr auto table(std::integer_sequence<int, R...>) {
  struct Table {
    Tiles of[sizeof...(R)];
  };
  return Table{{tiles<R + 1>...}};
}

constexpr auto kTiles = table(std::make_integer_sequence<int, kMaxRows>{});

// All rows of a panel's outputs.
void panel_rows(const LinearArgs& args, const Int8Weight& weight, int64_t panel,
                const Activations& x) {
  alignas(64) float sums[kMaxRows * kPanel];
  for (int64_t t = 0; t < x.tiles(); ++t) {
    const int64_t begin = x.begin(t), count = x.begin(t + 1) - begin;
    std::memset(sums, 0, sizeof(float) * kPanel * count);
    kTiles.of[count - 1](weight, panel, x.rows(t), sums);
    finish(args, begin, count, panel, sums);
  }
}

}  // namespace

void linear_int8(const LinearArgs& args, int64_t rows, Team& team) {
  const Int8Weight weight(args.weight);
  Activations x(args, weight, rows);
  bool filled = rows * weight.in > kOwnInputs;
  if (filled) {
    x.use(team.shared<uint8_t>(x.bytes()));
    team.each(x.tiles(), 1, [&](int64_t begin, int64_t) { x.fill(begin); });
  }
  const int64_t grain = 1 + kPartBytes / (weight.words() * 4 * kPanel);
  team.each(weight.panels(), grain, [&](int64_t begin, int64_t end) {
    if (!filled) {
      x.use(team.scratch<uint8_t>(x.bytes()));
      for (int64_t t = 0; t < x.tiles(); ++t) x.fill(t);
      filled = true;
    }
    for (int64_t panel = begin; panel < end; ++panel) panel_rows(args, weight, panel, x);
  });
}

}  // namespace inferd
