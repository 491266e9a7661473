#include "rmsnorm/cpu.h"

#include <cmath>

#include "cpu/simd.h"

namespace inferd {
namespace {

template <class T>
void add(T* residual, const T* x, int64_t width, float alpha) {
  int64_t i = 0;
  for (; i + kLanes <= width; i += kLanes)
    store(residual + i, load(residual + i) + load(x + i) * alpha);
  for (; i < width; ++i) residual[i] = from_float<T>(to_float(residual[i]) + to_float(x[i]) * alpha);
}

template <class T>
void normalize(T* out, const T* x, const float* weight, int64_t width, float eps) {
  const int64_t whole = width - width % kLanes;
  f32v squares{};
  for (int64_t i = 0; i < whole; i += kLanes) squares += load(x + i) * load(x + i);
  float total = sum(squares);
  for (int64_t i = whole; i < width; ++i) total += to_float(x[i]) * to_float(x[i]);
  const float scale = 1.0f / std::sqrt(total / static_cast<float>(width) + eps);
  for (int64_t i = 0; i < whole; i += kLanes) store(out + i, load(x + i) * scale * load(weight + i));
  for (int64_t i = whole; i < width; ++i) out[i] = from_float<T>(to_float(x[i]) * scale * weight[i]);
}

}  // namespace

void rmsnorm(const RmsnormArgs& args, int64_t rows, Team& team) {
  with_type(args.dtype, [&](auto zero) {
    using T = decltype(zero);
    team.each(rows * args.groups, 8, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t row = i / args.groups, column = i % args.groups * args.width;
        const T* x = static_cast<const T*>(args.x) + row * args.x_stride + column;
        if (args.residual != nullptr) {
          T* residual = static_cast<T*>(args.residual) + row * args.residual_stride + column;
          add(residual, x, args.width, args.alpha);
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
