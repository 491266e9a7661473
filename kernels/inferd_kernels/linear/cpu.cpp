#include "linear/cpu.h"

#include <algorithm>
#include <array>
#include <utility>

#include "linear/inputs.h"
#include "linear/int8.h"
#include "linear/tile.h"

namespace inferd {
namespace {

constexpr int64_t kPartBytes = 128 << 10;  // of weights, about, in a part of the work
constexpr int64_t kOwnInputs = 4096;  // up to so many each thread arranges for itself

// Panels that are worked on together, for R rows: as many sums as there are registers for.
constexpr int panels_for(int rows) {
  const int sums = rows * kVectors;
  return 4 * sums <= kMaxSums ? 4 : 2 * sums <= kMaxSums ? 2 : 1;
}

template <class K>
using Tile = void (*)(const typename K::Unit*, int64_t, const float*, int64_t, Ahead, float*);

// By rows - 1, for one panel and for panels_for(rows).
template <class K>
struct Tiles {
  std::array<Tile<K>, kMaxRows> one, many;
};

template <class K, int... R>
constexpr Tiles<K> tiles_of(std::integer_sequence<int, R...>) {
  return {{tile<K, R + 1, 1>...}, {tile<K, R + 1, panels_for(R + 1)>...}};
}

template <class K>
constexpr Tiles<K> kTiles = tiles_of<K>(std::make_integer_sequence<int, kMaxRows>{});

template <class T, class B>
void put(T* out, const float* sums, const B* bias, int64_t count) {
  for (int64_t i = 0; i < count; i += kLanes) {
    const int64_t n = std::min<int64_t>(kLanes, count - i);
    f32v y = load(sums + i);
    if (bias != nullptr) y += load_n(bias + i, n);
    store_n(out + i, y, n);
  }
}

// Rounds the sums of a tile, `width` of them in a row, and writes them where they belong.
void finish(const LinearArgs& args, int64_t row, int64_t rows, int64_t panel, int64_t width,
            const float* sums) {
  const int64_t first = panel * kPanel, count = std::min(width, args.weight.out - first);
  with_type(args.out_dtype, [&](auto out_zero) {
    with_type(args.x_dtype, [&](auto x_zero) {
      using T = decltype(out_zero);
      using B = decltype(x_zero);
      const B* bias = args.bias == nullptr ? nullptr : static_cast<const B*>(args.bias) + first;
      T* out = static_cast<T*>(args.out) + row * args.out_stride + first;
      for (int64_t r = 0; r < rows; ++r)
        put(out + r * args.out_stride, sums + r * width, bias, count);
    });
  });
}

// All rows times panels begin … end, which stay in the cache while the tiles of rows pass.
template <class K>
void part(const LinearArgs& args, const Inputs& x, int64_t begin, int64_t end) {
  alignas(64) float sums[kMaxSums * kLanes];
  using Unit = typename K::Unit;
  const Unit* data = static_cast<const Unit*>(args.weight.data);
  const int64_t size = x.steps() * kPanel;
  for (int64_t t = 0; t < x.tiles(); ++t) {
    const int64_t row = x.begin(t), rows = x.begin(t + 1) - row;
    const int many = panels_for(static_cast<int>(rows));
    for (int64_t panel = begin; panel < end;) {
      const int count = panel + many <= end ? many : 1;
      const Tile<K> run = (count == 1 ? kTiles<K>.one : kTiles<K>.many)[rows - 1];
      run(data + panel * size, size, x.of(t), x.steps(), Ahead{nullptr, 0}, sums);
      finish(args, row, rows, panel, count * kPanel, sums);
      panel += count;
    }
  }
}

template <class K>
void linear_as(const LinearArgs& args, int64_t rows, Team& team) {
  Inputs x(args, rows);
  bool filled = rows * args.weight.in > kOwnInputs;
  if (filled) {
    x.use(team.shared<float>(x.size()));
    team.each(x.tiles(), 1, [&](int64_t begin, int64_t) { x.fill(begin); });
  }
  const int64_t bytes = x.steps() * kPanel * sizeof(typename K::Unit);
  const int64_t grain = std::max<int64_t>(1, kPartBytes / bytes);
  team.each(args.weight.panels(), grain, [&](int64_t begin, int64_t end) {
    if (!filled) {
      x.use(team.scratch<float>(x.size()));
      for (int64_t t = 0; t < x.tiles(); ++t) x.fill(t);
      filled = true;
    }
    part<K>(args, x, begin, end);
  });
}

}  // namespace

void linear(const LinearArgs& args, int64_t rows, Team& team) {
  switch (args.weight.format) {
    case WeightFormat::f32:
      return linear_as<F32>(args, rows, team);
    case WeightFormat::bf16:
      return linear_as<Bf16>(args, rows, team);
    case WeightFormat::f16:
      return linear_as<F16>(args, rows, team);
    case WeightFormat::int8:
      return linear_int8(args, rows, team);
  }
}

}  // namespace inferd

INFERD_OPERATION(linear, LinearArgs)
