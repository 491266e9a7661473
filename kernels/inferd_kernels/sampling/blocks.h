// Rows of logits in blocks of 16, tiles of 32 blocks and chunks of 16 tiles: the same on every
// processor, so that sums have the same order.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "cpu/simd.h"

namespace inferd {

constexpr int kWidth = 16;
constexpr int kParts = kWidth / kLanes;
constexpr int64_t kTile = 32 * kWidth;
constexpr int64_t kChunk = 16 * kTile;
constexpr float kInfinity = __builtin_inff();
constexpr uint32_t kInfiniteBits = 0x7f800000;

typedef float f32h __attribute__((vector_size(2 * kLanes)));
typedef double f64v __attribute__((vector_size(4 * kLanes)));
typedef uint64_t u64v __attribute__((vector_size(4 * kLanes)));
constexpr int kWide = kLanes / 2;         // 64-bit lanes of a register
constexpr int kWides = kWidth / kWide;  // registers of a block in 64 bits

inline int64_t tiles_of(int64_t vocab) { return (vocab + kTile - 1) / kTile; }
inline int64_t chunks_of(int64_t vocab) { return (vocab + kChunk - 1) / kChunk; }
inline int64_t padded(int64_t vocab) { return tiles_of(vocab) * kTile; }

struct Block {
  f32v part[kParts];

  float operator[](int i) const { return part[i / kLanes][i % kLanes]; }

  // Elements i * kWide … of it.
  f64v wide(int i) const {
#if defined(__AVX512F__)
    const __m512d x = (__m512d)part[0];
    return (f64v)_mm512_cvtps_pd((__m256)(i == 0 ? _mm512_castpd512_pd256(x)
                                                 : _mm512_extractf64x4_pd(x, 1)));
#elif defined(__AVX2__)
    const __m256 x = (__m256)part[i / 2];
    return (f64v)_mm256_cvtps_pd(i % 2 == 0 ? _mm256_castps256_ps128(x)
                                            : _mm256_extractf128_ps(x, 1));
#else
    f32h half[2];
    std::memcpy(half, &part[i / 2], sizeof half);
    return __builtin_convertvector(half[i % 2], f64v);
#endif
  }
};

template <class F>
inline Block map(const Block& x, F&& f) {
  Block y;
  for (int p = 0; p < kParts; ++p) y.part[p] = f(x.part[p]);
  return y;
}

inline Block load_block(const float* x) {
  Block y;
  for (int p = 0; p < kParts; ++p) y.part[p] = load(x + p * kLanes);
  return y;
}

inline void store_block(float* x, const Block& y) {
  for (int p = 0; p < kParts; ++p) store(x + p * kLanes, y.part[p]);
}

// Calls f(block, index of its first element) for x[begin … end), begin at a block's border; the
// last block is filled up with -inf.
template <class F>
inline void each_block(const float* x, int64_t begin, int64_t end, F&& f) {
  int64_t i = begin;
  for (; i + kWidth <= end; i += kWidth) f(load_block(x + i), i);
  if (i == end) return;
  float rest[kWidth];
  for (int k = 0; k < kWidth; ++k) rest[k] = i + k < end ? x[i + k] : -kInfinity;
  f(load_block(rest), i);
}

// Bit i is set where a[i] >= b.
inline uint32_t at_least(const Block& a, float b) {
#if defined(__AVX512F__)
  return _mm512_cmp_ps_mask((__m512)a.part[0], _mm512_set1_ps(b), _CMP_GE_OQ);
#else
  uint32_t bits = 0;
  for (int p = 0; p < kParts; ++p) {
#if defined(__AVX2__)
    const __m256 mask = _mm256_cmp_ps((__m256)a.part[p], _mm256_set1_ps(b), _CMP_GE_OQ);
    bits |= static_cast<uint32_t>(_mm256_movemask_ps(mask)) << (p * kLanes);
#else
    for (int i = 0; i < kLanes; ++i)
      bits |= static_cast<uint32_t>(a.part[p][i] >= b) << (p * kLanes + i);
#endif
  }
  return bits;
#endif
}

inline uint32_t at_most(f64v a, f64v b) {
#if defined(__AVX512F__)
  return _mm512_cmp_pd_mask((__m512d)a, (__m512d)b, _CMP_LE_OQ);
#elif defined(__AVX2__)
  const __m256d mask = _mm256_cmp_pd((__m256d)a, (__m256d)b, _CMP_LE_OQ);
  return static_cast<uint32_t>(_mm256_movemask_pd(mask));
#else
  uint32_t bits = 0;
  for (int i = 0; i < kWide; ++i) bits |= static_cast<uint32_t>(a[i] <= b[i]) << i;
  return bits;
#endif
}

// Calls f(i) for the bits that are set, the lowest first.
template <class F>
inline void each_bit(uint32_t bits, F&& f) {
  for (; bits != 0; bits &= bits - 1) f(__builtin_ctz(bits));
}

// Sums of float32 in float64, 16 of them side by side.
class Mass {
 public:
  void add(const Block& x) {
#pragma GCC unroll 8
    for (int i = 0; i < kWides; ++i) lanes_[i] += x.wide(i);
  }

  double total() const {
    double x[kWidth];
    std::memcpy(x, lanes_, sizeof x);
    for (int width = kWidth / 2; width > 0; width /= 2)
      for (int i = 0; i < width; ++i) x[i] += x[i + width];
    return x[0];
  }

 private:
  f64v lanes_[kWides]{};
};

// A row of logits x as it is drawn from or scored: values y of which the largest is 0. Every step
// is monotone and correctly rounded, so the largest of some y is that of their largest x.
struct View {
  float divisor = 1.0f;      // first
  float top = 0.0f;          // then subtracted
  float temperature = 1.0f;  // which divides last

  static View drawn(float largest, float temperature) { return {1.0f, largest, temperature}; }
  static View scored(float largest, float divisor) { return {divisor, largest / divisor, 1.0f}; }

  f32v operator()(f32v x) const {
    if (divisor != 1.0f) x = x / divisor;
    x = x - top;
    return temperature == 1.0f ? x : x / temperature;
  }
  Block operator()(const Block& x) const {
    return map(x, [this](f32v part) { return (*this)(part); });
  }
  float operator()(float x) const { return (*this)(splat(x))[0]; }

  // Calls f with the same function of blocks, without what it does not need.
  template <class F>
  void with_steps(F&& f) const {
    const f32v divisors = splat(divisor), tops = splat(top), temperatures = splat(temperature);
    if (divisor != 1.0f)
      f([=](f32v x) { return x / divisors - tops; });
    else if (temperature != 1.0f)
      f([=](f32v x) { return (x - tops) / temperatures; });
    else
      f([=](f32v x) { return x - tops; });
  }
};

}  // namespace inferd
