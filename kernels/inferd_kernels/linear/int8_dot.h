// Dot products of unsigned bytes of weights with signed bytes of activations, exact in int32.
#pragma once

#include <cstdint>
#include <cstring>

#include "cpu/simd.h"

namespace inferd {

typedef int16_t i16v __attribute__((vector_size(4 * kLanes)));

inline i32v load_words(const void* p) {
  i32v x;
  std::memcpy(&x, p, sizeof x);
  return x;
}

inline i32v splat_word(const void* p) {
  int32_t word;
  std::memcpy(&word, p, sizeof word);
  return i32v{} + word;
}

#if defined(__AVX512VNNI__)

constexpr int kMaxRows = 8;  // of a tile: 16 sums, two weights and an activation in registers

// Four activations as the products want them.
using Quad = int32_t;

inline Quad quad(const int8_t* q) {
  Quad x;
  std::memcpy(&x, q, sizeof x);
  return x;
}

// Four weights of each lane's output.
using Weights = i32v;
using Four = i32v;
inline Weights weights(const uint8_t* p) { return load_words(p); }
inline Four splat(const Quad* p) { return splat_word(p); }

inline i32v dot(i32v sum, Weights w, Four x) {
  return (i32v)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)w, (__m512i)x);
}

#else

// Bytes 0 and 2 of a word as one pair of int16, 1 and 3 as the other: no pair of products of a
// byte and a signed byte leaves int32, as `pmaddubsw` would leave int16.
struct Quad {
  int16_t even[2], odd[2];
};

inline Quad quad(const int8_t* q) { return {{q[0], q[2]}, {q[1], q[3]}}; }

struct Weights {
  i32v even, odd;
};
using Four = Weights;

inline Weights weights(const uint8_t* p) {
  const u32v bytes = (u32v)load_words(p);
  return {(i32v)(bytes & 0x00ff00ff), (i32v)((bytes >> 8) & 0x00ff00ff)};
}

inline Four splat(const Quad* p) { return {splat_word(p->even), splat_word(p->odd)}; }

#if defined(__AVX512BW__)
constexpr int kMaxRows = 8;  // of a tile: 16 sums, two weights and an activation in registers
inline i32v pairs(i32v a, i32v b) { return (i32v)_mm512_madd_epi16((__m512i)a, (__m512i)b); }
#elif defined(__AVX2__)
constexpr int kMaxRows = 4;
inline i32v pairs(i32v a, i32v b) { return (i32v)_mm256_madd_epi16((__m256i)a, (__m256i)b); }
#else
constexpr int kMaxRows = 4;
inline i32v pairs(i32v a, i32v b) {
  return ((a << 16) >> 16) * ((b << 16) >> 16) + (a >> 16) * (b >> 16);
}
#endif

inline i32v dot(i32v sum, const Weights& w, const Four& x) {
  return sum + pairs(w.even, x.even) + pairs(w.odd, x.odd);
}

#endif

}  // namespace inferd
