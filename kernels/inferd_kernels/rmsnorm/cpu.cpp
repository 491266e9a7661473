#include "rmsnorm/cpu.h"

#include <cmath>

#include "cpu/simd.h"

namespace inferd {
namespace {

template <class T>
void add(T* residual, const T* x, int64_t width, f32v alpha) {
  int64_t i = 0;
  for (; i + kLanes <= width; i += kLanes)
    store(residual + i, fma(load(x + i), alpha, load(residual + i)));
  const int64_t rest = width - i;
  if (rest == 0) return;
  store_n(residual + i, fma(load_n(x + i, rest), alpha, load_n(residual + i, rest)), rest);
}

// In four sums, whose additions need not wait for each other.
template <class T>
float sum_of_squares(const T* x, int64_t width) {
  f32v sums[4] = {};
  int64_t i = 0;
  for (; i + 4 * kLanes <= width; i += 4 * kLanes)
    for (int k = 0; k < 4; ++k) {
      const f32v v = load(x + i + k * kLanes);
      sums[k] = fma(v, v, sums[k]);
    }
  for (; i < width; i += kLanes) {
    const f32v v = load_n(x + i, std::min<int64_t>(kLanes, width - i));
    sums[0] = fma(v, v, sums[0]);
  }
  return sum((sums[0] + sums[1]) + (sums[2] + sums[3]));
}

template <class T>
void normalize(T* out, const T* x, const float* weight, int64_t width, float eps) {
  const float mean = sum_of_squares(x, width) / static_cast<float>(width);
  const float scale = 1.0f / std::sqrt(mean + eps);
  int64_t i = 0;
  for (; i + kLanes <= width; i += kLanes) store(out + i, load(x + i) * scale * load(weight + i));
  const int64_t rest = width - i;
  if (rest != 0) store_n(out + i, load_n(x + i, rest) * scale * load_n(weight + i, rest), rest);
}

}  // namespace

void rmsnorm(const RmsnormArgs& args, int64_t rows, Team& team) {
  const int64_t grain = std::max<int64_t>(1, 4096 / args.width);
  with_type(args.dtype, [&](auto zero) {
    using T = decltype(zero);
    team.each(rows * args.groups, grain, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t row = i / args.groups, column = i % args.groups * args.width;
        const T* x = static_cast<const T*>(args.x) + row * args.x_stride + column;
        if (args.residual != nullptr) {
          T* residual = static_cast<T*>(args.residual) + row * args.residual_stride + column;
          add(residual, x, args.width, splat(args.alpha));
          x = residual;
        }
        T* out = static_cast<T*>(args.out) + row * args.out_stride + column;
        normalize(out, x, args.weight, args.width, args.eps);
      }
    });
  });
}

}  // namespace inferd

INFERD_OPERATION(rmsnorm, RmsnormArgs)
