#include "elementwise/cpu.h"

#include "cpu/simd.h"

namespace inferd {
namespace {

constexpr int64_t kChunk = 4096;  // columns of a part

// Calls f(row, first column, columns) for parts of rows of `width`, on all threads.
template <class F>
void parts(Team& team, int64_t rows, int64_t width, F&& f) {
  const int64_t chunks = (width + kChunk - 1) / kChunk;
  team.each(rows * chunks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t column = i % chunks * kChunk;
      f(i / chunks, column, std::min(kChunk, width - column));
    }
  });
}

}  // namespace

void add(const AddArgs& args, int64_t rows, Team& team) {
  const f32v alpha = splat(args.alpha);
  with_type(args.dtype, [&](auto zero) {
    using T = decltype(zero);
    parts(team, rows, args.width, [&](int64_t row, int64_t column, int64_t count) {
      T* out = static_cast<T*>(args.out) + row * args.out_stride + column;
      const T* x = static_cast<const T*>(args.x) + row * args.x_stride + column;
      int64_t i = 0;
      for (; i + kLanes <= count; i += kLanes) store(out + i, fma(load(x + i), alpha, load(out + i)));
      const int64_t rest = count - i;
      store_n(out + i, fma(load_n(x + i, rest), alpha, load_n(out + i, rest)), rest);
    });
  });
}

void scale(const ScaleArgs& args, int64_t rows, Team& team) {
  with_type(args.dtype, [&](auto zero) {
    using T = decltype(zero);
    parts(team, rows, args.width, [&](int64_t row, int64_t column, int64_t count) {
      T* x = static_cast<T*>(args.x) + row * args.stride + column;
      int64_t i = 0;
      for (; i + kLanes <= count; i += kLanes) store(x + i, load(x + i) * args.factor);
      store_n(x + i, load_n(x + i, count - i) * args.factor, count - i);
    });
  });
}

}  // namespace inferd

INFERD_OPERATION(add, AddArgs)
INFERD_OPERATION(scale, ScaleArgs)
