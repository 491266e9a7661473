// Rows to columns, for what is kept in the order in which products use it.
#pragma once

#include <algorithm>
#include <cstdint>

#include "cpu/simd.h"

namespace inferd {

// out[k * step + r] = in[r * stride + k] for `rows` rows of `count` units of 2 or 4 bytes.
template <class U>
void transpose_plain(U* out, int64_t step, const U* in, int64_t stride, int64_t rows,
                     int64_t count) {
  for (int64_t k = 0; k < count; ++k)
    for (int64_t r = 0; r < rows; ++r) out[k * step + r] = in[r * stride + k];
}

#if defined(__AVX512F__)

// 16 x 16 units of 4 bytes: pairs of rows are interleaved, then pairs of pairs, and so on.
inline void transpose_square(__m512i x[16]) {
  __m512i y[16];
  for (int i = 0; i < 16; i += 2) {
    y[i] = _mm512_unpacklo_epi32(x[i], x[i + 1]);
    y[i + 1] = _mm512_unpackhi_epi32(x[i], x[i + 1]);
  }
  for (int i = 0; i < 16; i += 4)
    for (int j = 0; j < 2; ++j) {
      x[i + 2 * j] = _mm512_unpacklo_epi64(y[i + j], y[i + j + 2]);
      x[i + 2 * j + 1] = _mm512_unpackhi_epi64(y[i + j], y[i + j + 2]);
    }
  for (int i = 0; i < 16; i += 8)
    for (int j = 0; j < 4; ++j) {
      y[i + j] = _mm512_shuffle_i32x4(x[i + j], x[i + j + 4], 0x88);
      y[i + j + 4] = _mm512_shuffle_i32x4(x[i + j], x[i + j + 4], 0xdd);
    }
  for (int i = 0; i < 8; ++i) {
    x[i] = _mm512_shuffle_i32x4(y[i], y[i + 8], 0x88);
    x[i + 8] = _mm512_shuffle_i32x4(y[i], y[i + 8], 0xdd);
  }
}

// The same for units of 4 bytes, 16 by 16.
inline void transpose(uint32_t* out, int64_t step, const uint32_t* in, int64_t stride,
                      int64_t rows, int64_t count) {
  for (int64_t r = 0; r < rows; r += 16) {
    const int64_t height = std::min<int64_t>(16, rows - r);
    const auto lanes = static_cast<__mmask16>((1u << height) - 1);
    for (int64_t k = 0; k < count; k += 16) {
      const int64_t width = std::min<int64_t>(16, count - k);
      const auto inside = static_cast<__mmask16>((1u << width) - 1);
      __m512i x[16];
      for (int i = 0; i < 16; ++i)
        x[i] = i < height ? _mm512_maskz_loadu_epi32(inside, in + (r + i) * stride + k)
                          : _mm512_setzero_si512();
      transpose_square(x);
      for (int i = 0; i < width; ++i)
        _mm512_mask_storeu_epi32(out + (k + i) * step + r, lanes, x[i]);
    }
  }
}

#else

inline void transpose(uint32_t* out, int64_t step, const uint32_t* in, int64_t stride,
                      int64_t rows, int64_t count) {
  transpose_plain(out, step, in, stride, rows, count);
}

#endif

}  // namespace inferd
