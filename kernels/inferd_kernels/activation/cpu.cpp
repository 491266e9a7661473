#include "activation/cpu.h"

#include "cpu/simd.h"

namespace inferd {
namespace {

constexpr int64_t kChunk = 1024;  // columns of a part

f32v sigmoid(f32v x) { return 1.0f / (1.0f + exp(-x)); }

// erfc(x) for x >= 0, within 4e-7 of it: e^(-x^2) t p(t), t = 1 / (1 + x / 2). p was fitted to
// e^(x^2) erfc(x) / t at Chebyshev nodes of 0.06 <= t <= 1; beyond that erfc is below float32.
f32v erfc(f32v x) {
  const f32v t = 1.0f / fma(x, splat(0.5f), splat(1.0f));
  f32v p = splat(0.04472849147f);
  for (const float c : {-0.2428287071f, 0.5120511406f, -0.478336921f, 0.1504860288f, -0.06833142822f,
                        0.09634069305f, 0.1747595876f, 0.2469458482f, 0.2820904121f, 0.2820948607f})
    p = fma(p, t, splat(c));
  return exp(-x * x) * t * p;
}

// The share of a normal distribution that lies below x.
f32v normal_below(f32v x) {
  const f32v scaled = x * 0.70710678f;
  const f32v tail = erfc(scaled < 0.0f ? -scaled : scaled) * 0.5f;
  return x < 0.0f ? tail : 1.0f - tail;
}

template <Activation kind>
f32v activate(f32v x) {
  if constexpr (kind == Activation::silu) return x / (1.0f + exp(-x));
  if constexpr (kind == Activation::gelu) return x * normal_below(x);
  // x (1 + tanh(u)) / 2 = x sigmoid(2 u), u = sqrt(2 / pi) (x + 0.044715 x^3)
  const f32v cubic = fma(x * x * x, splat(0.044715f), x);
  return x * sigmoid(cubic * 1.59576912f);
}

template <Activation kind, class T>
void multiply(T* out, const T* gate, const T* up, int64_t width) {
  const int64_t whole = width - width % kLanes, rest = width - whole;
  for (int64_t i = 0; i < whole; i += kLanes)
    store(out + i, activate<kind>(load(gate + i)) * load(up + i));
  if (rest == 0) return;
  const f32v last = activate<kind>(load_n(gate + whole, rest)) * load_n(up + whole, rest);
  store_n(out + whole, last, rest);
}

template <Activation kind>
void gated_as(const GatedArgs& args, int64_t rows, Team& team) {
  const int64_t chunks = (args.width + kChunk - 1) / kChunk;
  with_type(args.dtype, [&](auto zero) {
    using T = decltype(zero);
    team.each(rows * chunks, 2, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t row = i / chunks, column = i % chunks * kChunk;
        const T* gate = static_cast<const T*>(args.gate_up) + row * args.stride + column;
        T* out = static_cast<T*>(args.out) + row * args.out_stride + column;
        multiply<kind>(out, gate, gate + args.width, std::min(kChunk, args.width - column));
      }
    });
  });
}

}  // namespace

void gated(const GatedArgs& args, int64_t rows, Team& team) {
  switch (args.kind) {
    case Activation::silu:
      return gated_as<Activation::silu>(args, rows, team);
    case Activation::gelu:
      return gated_as<Activation::gelu>(args, rows, team);
    case Activation::gelu_tanh:
      return gated_as<Activation::gelu_tanh>(args, rows, team);
  }
}

}  // namespace inferd

INFERD_OPERATION(gated, GatedArgs)
