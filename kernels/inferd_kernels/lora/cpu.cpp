#include "lora/cpu.h"

#include <algorithm>

#include "cpu/dots.h"

namespace inferd {
namespace {

constexpr int64_t kTile = 16;      // rows of a segment
constexpr int64_t kColumns = 512;  // of y, for one part of the work

int64_t round_up(int64_t n, int64_t step) { return (n + step - 1) / step * step; }

// Some rows of one segment.
struct Tile {
  const LoraSlot* slot;
  const int32_t* rows;
  int64_t count;
};

int64_t tiles_of(const LoraArgs& args, int64_t segment) {
  const LoraBatch& batch = *args.batch;
  if (args.slots[batch.slots[segment]].a == nullptr) return 0;
  return (batch.starts[segment + 1] - batch.starts[segment] + kTile - 1) / kTile;
}

Tile tile_at(const LoraArgs& args, int64_t index) {
  const LoraBatch& batch = *args.batch;
  int64_t segment = 0;
  for (; index >= tiles_of(args, segment); ++segment) index -= tiles_of(args, segment);
  const int64_t begin = batch.starts[segment] + index * kTile;
  const int64_t end = std::min<int64_t>(begin + kTile, batch.starts[segment + 1]);
  return {args.slots + batch.slots[segment], batch.rows + begin, end - begin};
}

// low[i][r] = a[r] · x[row i], for all the slot's ranks.
template <class T>
void shrink(const LoraArgs& args, const Tile& tile, float* low, int64_t stride, Team& team) {
  using Packed = dots::Packed<T>;
  const int64_t whole = args.in - args.in % dots::Dot<T>::kStep;
  const T* a = static_cast<const T*>(tile.slot->a);
  const auto x = [&](int64_t i) {
    return static_cast<const T*>(args.x) + tile.rows[i] * args.x_stride;
  };
  Packed* packed = team.scratch<Packed>(kTile * whole);
  for (int64_t i = 0; i < tile.count; ++i)
    for (int64_t d = 0; d < whole; d += kLanes) store(packed + i * whole + d, load(x(i) + d));
  for (int64_t r = 0; r < tile.slot->rank; r += kLanes) {
    const T* factors[kLanes];
    for (int64_t k = 0; k < kLanes; ++k)
      factors[k] = a + std::min(r + k, tile.slot->rank - 1) * args.in;
    dots::rows<T>(low + r, stride, packed, tile.count, factors, 0, whole);
  }
  if (whole == args.in) return;
  for (int64_t i = 0; i < tile.count; ++i)
    for (int64_t r = 0; r < tile.slot->rank; ++r)
      for (int64_t d = whole; d < args.in; ++d)
        low[i * stride + r] += to_float(a[r * args.in + d]) * to_float(x(i)[d]);
}

// low[i][r] = a[r][ids[row i]].
template <class T>
void look_up(const LoraArgs& args, const Tile& tile, float* low, int64_t stride) {
  const T* a = static_cast<const T*>(tile.slot->a);
  for (int64_t i = 0; i < tile.count; ++i)
    for (int64_t r = 0; r < tile.slot->rank; ++r)
      low[i * stride + r] = to_float(a[r * args.in + args.ids[tile.rows[i]]]);
}

// y[i][…] += low[i] · b for kRows rows and kVectors vectors of columns; `n` columns, where there
// are fewer than one vector.
template <int kRows, int kVectors, class Y, class B>
void add(Y* const* y, const float* low, int64_t stride, const B* b, int64_t width, int64_t rank,
         int64_t n = kLanes) {
  f32v sum[kRows][kVectors]{};
  for (int64_t r = 0; r < rank; ++r) {
    f32v factor[kVectors];
    for (int v = 0; v < kVectors; ++v)
      factor[v] = n < kLanes ? load_n(b + r * width, n) : load(b + r * width + v * kLanes);
    for (int i = 0; i < kRows; ++i)
      for (int v = 0; v < kVectors; ++v)
        sum[i][v] = sum[i][v] + splat(low[i * stride + r]) * factor[v];
  }
  for (int i = 0; i < kRows; ++i) {
    if (n < kLanes) {
      store_n(y[i], load_n(y[i], n) + sum[i][0], n);
      continue;
    }
    for (int v = 0; v < kVectors; ++v)
      store(y[i] + v * kLanes, load(y[i] + v * kLanes) + sum[i][v]);
  }
}

// Columns begin … end - 1 of a part, for kRows rows.
template <int kRows, class Y, class B>
void add_columns(const Tile& tile, int64_t first_row, const LoraArgs& args, const LoraPart& part,
                 const float* low, int64_t stride, int64_t begin, int64_t end) {
  const B* b = static_cast<const B*>(part.b);
  Y* y[kRows];
  const auto move_to = [&](int64_t column) {
    for (int i = 0; i < kRows; ++i)
      y[i] = static_cast<Y*>(args.y) + tile.rows[first_row + i] * args.y_stride + part.offset +
             column;
  };
  low += first_row * stride;
  int64_t o = begin;
  for (; o + 2 * kLanes <= end; o += 2 * kLanes) {
    move_to(o);
    add<kRows, 2>(y, low, stride, b + o, part.width, part.rank);
  }
  for (; o < end; o += kLanes) {
    move_to(o);
    add<kRows, 1>(y, low, stride, b + o, part.width, part.rank, std::min<int64_t>(kLanes, end - o));
  }
}

// Columns begin … end - 1 of y, for the rows of a tile.
template <class Y>
void expand(const LoraArgs& args, const Tile& tile, const float* low, int64_t stride, int64_t begin,
            int64_t end) {
  for (int64_t p = 0; p < tile.slot->num_parts; ++p) {
    const LoraPart& part = tile.slot->parts[p];
    const int64_t from = std::max<int64_t>(0, begin - part.offset);
    const int64_t to = std::min(part.width, end - part.offset);
    if (from < to)
      with_type(part.dtype, [&](auto zero) {
        dots::each_tile<4>(tile.count, [&](int64_t i, auto size) {
          add_columns<size(), Y, decltype(zero)>(tile, i, args, part, low, stride, from, to);
        });
      });
    low += part.rank;
  }
}

}  // namespace

void lora(const LoraArgs& args, int64_t, Team& team) {
  int64_t tiles = 0, max_rank = 0;
  for (int64_t s = 0; s < args.batch->num_segments; ++s) {
    tiles += tiles_of(args, s);
    max_rank = std::max(max_rank, args.slots[args.batch->slots[s]].rank);
  }
  if (tiles == 0) return;
  const int64_t stride = round_up(max_rank, kLanes);
  float* low = team.shared<float>(tiles * kTile * stride);
  with_type(args.x_dtype, [&](auto zero) {
    using T = decltype(zero);
    team.each(tiles, 1, [&](int64_t t, int64_t) {
      float* lows = low + t * kTile * stride;
      if (args.ids != nullptr) return look_up<T>(args, tile_at(args, t), lows, stride);
      shrink<T>(args, tile_at(args, t), lows, stride, team);
    });
  });
  const int64_t blocks = (args.out + kColumns - 1) / kColumns;
  with_type(args.y_dtype, [&](auto zero) {
    team.each(tiles * blocks, 1, [&](int64_t i, int64_t) {
      const int64_t t = i / blocks, column = i % blocks * kColumns;
      expand<decltype(zero)>(args, tile_at(args, t), low + t * kTile * stride, stride, column,
                             column + kColumns);
    });
  });
}

}  // namespace inferd

INFERD_OPERATION(lora, LoraArgs)
