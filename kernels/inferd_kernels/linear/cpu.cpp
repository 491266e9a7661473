#include "linear/cpu.h"

#include <algorithm>
#include <array>
#include <utility>

#include "linear/inputs.h"
#include "linear/int8.h"
#include "linear/outputs.h"
#include "linear/tile.h"

namespace inferd {
namespace {

constexpr int64_t kPartBytes = 512 << 10;  // of weights, at most, in a part of the work
constexpr int64_t kShares = 4;  // parts for each thread, at least
constexpr int64_t kBlockBytes = 4 << 20;  // of inputs that are arranged at a time: in the cache
constexpr int64_t kOwnInputs = 4096;  // up to so many each thread arranges for itself

template <class K>
using Tile = void (*)(const typename K::Unit*, const float*, int64_t, Ahead, float*);

// By rows - 1.
template <class K, int... R>
constexpr std::array<Tile<K>, kMaxRows> tiles_of(std::integer_sequence<int, R...>) {
  return {tile<K, R + 1>...};
}

template <class K>
constexpr auto kTiles = tiles_of<K>(std::make_integer_sequence<int, kMaxRows>{});

// Far enough for memory, and beyond the page at whose end the processor's own fetching stops.
constexpr int64_t kAhead = 8192;

// All rows times panels begin … end.
template <class K>
class Part {
 public:
  Part(const LinearArgs& args, const Inputs& x, int64_t begin, int64_t end)
      : args_(args), x_(x), begin_(begin), end_(end) {}

  void run() const {
    const int64_t group = x_.tiles() > kManyTiles ? end_ - begin_ : 1;
    for (int64_t first = begin_; first < end_; first += group)
      for (int64_t t = 0; t < x_.tiles(); ++t)
        for (int64_t panel = first; panel < first + group; ++panel) product(t, panel);
  }

 private:
  using Unit = typename K::Unit;
  static constexpr int64_t kStep = kPanel * sizeof(Unit);
  static constexpr int64_t kManyTiles = 8;  // from which weights come from memory in no time

  const Unit* weights(int64_t panel) const {
    return static_cast<const Unit*>(args_.weight.data) + panel * x_.steps() * kPanel;
  }

  void product(int64_t t, int64_t panel) const {
    alignas(64) float sums[kMaxRows * kPanel];
    const int64_t row = x_.begin(t), rows = x_.begin(t + 1) - row;
    kTiles<K>[rows - 1](weights(panel), x_.of(t), x_.steps(), ahead(t, panel), sums);
    finish(args_, row, rows, panel, sums);
  }

  // The first tile of a part fetches its own weights, and all others share in the next panel.
  Ahead ahead(int64_t t, int64_t panel) const {
    const char* own = reinterpret_cast<const char*>(weights(panel));
    if (x_.tiles() == 1 || x_.tiles() > kManyTiles) return {own + kAhead, kStep};
    const int64_t first = panel == begin_ ? 1 : 0;
    if (t < first) return {own + kAhead, kStep};
    if (panel + 1 == end_) return {own, 0};
    const int64_t shares = x_.tiles() - first, bytes = (kStep + shares - 1) / shares;
    return {own + x_.steps() * (kStep + (t - first) * bytes), bytes};
  }

  const LinearArgs& args_;
  const Inputs& x_;
  const int64_t begin_, end_;
};

template <class K>
void block(const LinearArgs& args, int64_t first, int64_t rows, Team& team) {
  Inputs x(args, first, rows);
  bool filled = rows * args.weight.in > kOwnInputs;
  if (filled) {
    x.use(team.shared<float>(x.size()));
    team.each(x.tiles(), 1, [&](int64_t begin, int64_t) { x.fill(begin); });
  }
  const int64_t panels = args.weight.panels(), shares = kShares * team.size();
  const int64_t bytes = std::max<int64_t>(1, x.steps()) * kPanel * sizeof(typename K::Unit);
  const int64_t grain = std::max<int64_t>(1, std::min(kPartBytes / bytes, panels / shares));
  team.each(panels, grain, [&](int64_t begin, int64_t end) {
    if (!filled) {
      x.use(team.scratch<float>(x.size()));
      for (int64_t t = 0; t < x.tiles(); ++t) x.fill(t);
      filled = true;
    }
    Part<K>(args, x, begin, end).run();
  });
}

template <class K>
void linear_as(const LinearArgs& args, int64_t rows, Team& team) {
  const int64_t at_once = std::max<int64_t>(kMaxRows, kBlockBytes / (args.weight.in * 4 + 1));
  for (int64_t first = 0; first < rows; first += at_once)
    block<K>(args, first, std::min(at_once, rows - first), team);
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
