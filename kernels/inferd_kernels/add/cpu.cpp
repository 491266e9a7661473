#include "add/cpu.h"

#include "cpu/simd.h"

namespace inferd {
namespace {

template <class T>
void add_row(T* residual, const T* x, int64_t width, float alpha) {
  int64_t i = 0;
  for (; i + kLanes <= width; i += kLanes)
    store(residual + i, load(residual + i) + load(x + i) * alpha);
  for (; i < width; ++i) residual[i] = from_float<T>(to_float(residual[i]) + to_float(x[i]) * alpha);
}

}  // namespace

void add(const AddArgs& args, int64_t rows, Team& team) {
  with_type(args.dtype, [&](auto zero) {
    using T = decltype(zero);
    team.each(rows, 8, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row)
        add_row(static_cast<T*>(args.residual) + row * args.residual_stride,
                static_cast<const T*>(args.x) + row * args.x_stride, args.width, args.alpha);
    });
  });
}

}  // namespace inferd

INFERD_OPERATION(add, AddArgs)
