#include "rope/cpu.h"

#include "cpu/simd.h"

namespace inferd {
namespace {

template <class T>
void turn(T* x, const float* cos, const float* sin, int64_t half) {
  const int64_t whole = half - half % kLanes, rest = half - whole;
  for (int64_t i = 0; i < whole; i += kLanes) {
    const f32v a = load(x + i), b = load(x + half + i), c = load(cos + i), s = load(sin + i);
    store(x + i, fma(a, c, -(b * s)));
    store(x + half + i, fma(b, c, a * s));
  }
  if (rest == 0) return;
  T *first = x + whole, *second = first + half;
  const f32v a = load_n(first, rest), b = load_n(second, rest);
  const f32v c = load_n(cos + whole, rest), s = load_n(sin + whole, rest);
  store_n(first, fma(a, c, -(b * s)), rest);
  store_n(second, fma(b, c, a * s), rest);
}

}  // namespace

void rope(const RopeArgs& args, int64_t rows, Team& team) {
  const int64_t heads = args.q_heads + args.k_heads;
  with_type(static_cast<DType>(args.dtype), [&](auto zero) {
    using T = decltype(zero);
    team.each(rows * heads, 32, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t row = i / heads, head = i % heads, k_head = head - args.q_heads;
        T* x = k_head < 0
                   ? static_cast<T*>(args.q) + row * args.q_stride + head * args.q_head_stride
                   : static_cast<T*>(args.k) + row * args.k_stride + k_head * args.k_head_stride;
        const int64_t angles = args.positions[row] * args.half;
        turn(x, args.cos + angles, args.sin + angles, args.half);
        if (k_head >= 0 && args.kv.slots != nullptr) write_head(args.kv, row, k_head);
      }
    });
  });
}

}  // namespace inferd

INFERD_OPERATION(rope, RopeArgs)
