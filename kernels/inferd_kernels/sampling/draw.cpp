#include "sampling/draw.h"

#include <algorithm>

#include "sampling/noise.h"

namespace inferd {
namespace {

// Appends the elements whose bits are set, and their tokens from `token` on, to both arrays; may
// write a block beyond. Returns how many.
int append(const Block& x, uint32_t bits, int64_t token, float* weights, uint32_t* tokens) {
#if defined(__AVX512F__)
  const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  const __m512i all = _mm512_add_epi32(lanes, _mm512_set1_epi32(static_cast<int>(token)));
  const __mmask16 mask = static_cast<__mmask16>(bits);
  _mm512_storeu_ps(weights, _mm512_maskz_compress_ps(mask, (__m512)x.part[0]));
  _mm512_storeu_si512(tokens, _mm512_maskz_compress_epi32(mask, all));
  return __builtin_popcount(bits);
#else
  int n = 0;
  each_bit(bits, [&](int k) {
    weights[n] = x[k];
    tokens[n++] = static_cast<uint32_t>(token + k);
  });
  return n;
#endif
}

class Race {
 public:
  Race(const State& state, Part& part) : stream_(state.stream), part_(part) {
    part.finish = state.finish;
    part.token = state.token;
  }

  // Lets a block of weights run; its k-th register in 64 bits has offsets_of(k) in the noise, and
  // its i-th element is token_of(i).
  template <class Offsets, class Token>
  void run(const Block& weights, Offsets&& offsets_of, Token&& token_of) {
#pragma GCC unroll 8
    for (int k = 0; k < kWides; ++k) {
      const f64v u = uniform(stream_, offsets_of(k)), weight = weights.wide(k);
      // -log(1 - u) >= u: most tokens cannot arrive in time, whatever their exact number.
      const uint32_t hits = at_most(u, weight * (part_.finish * (1 + 1e-9)));
      each_bit(hits, [&](int i) {
        const double time = finish(u[i], weight[i]);
        const int64_t token = token_of(k * kWide + i);
        if (time > part_.finish || (time == part_.finish && token >= part_.token)) return;
        part_.finish = time;
        part_.token = token;
      });
    }
  }

 private:
  const uint64_t stream_;
  Part& part_;
};

}  // namespace

double weigh(const Logits& logits, int64_t begin, int64_t end, const Work& work) {
  const View view = work.state->view;
  const float least = work.state->least_value;
  const f32v floor = splat(least);
  float* weights = work.weights;
  Mass mass;
  view.with_steps([&](auto&& steps) {
    for (int64_t at = begin; at < end; at += kTile) {
      const int64_t tile = at / kTile;
      work.live[tile] = at_least(view(load_block(logits.maxima + tile * kWidth)), least) != 0;
      if (!work.live[tile]) continue;
      const int64_t stop = std::min(at + kTile, end);
      each_block(logits.x, at, stop, [&](const Block& y, int64_t i) {
        const Block weight = map(y, [&](f32v part) {
          const f32v value = steps(part);
          return value >= floor ? exp_of_negative(value) : f32v{};
        });
        store_block(weights + i, weight);
        mass.add(weight);
      });
      const int64_t written = (stop + kWidth - 1) / kWidth * kWidth;
      std::fill(weights + written, weights + at + kTile, 0.0f);
    }
  });
  return mass.total();
}

void race(int64_t begin, int64_t end, const Work& work, bool filtered, Part& part) {
  const float least = work.state->least_weight;
  // Every chunk has its own part of the list, with room for all of its tokens.
  float* weights = reinterpret_cast<float*>(work.list) + 2 * begin;
  uint32_t* tokens = work.list + 2 * begin + padded(end - begin);
  int64_t n = 0;
  Race race(*work.state, part);
  for (int64_t at = begin; at < end; at += kTile) {
    if (!work.live[at / kTile]) continue;
    each_block(work.weights, at, at + kTile, [&](const Block& block, int64_t i) {
      if (filtered) {
        n += append(block, at_least(block, least), i, weights + n, tokens + n);
      } else {
        race.run(
            block, [=](int k) { return offsets_from(i + k * kWide); },
            [=](int k) { return i + k; });
      }
    });
  }
  if (n == 0) return;
  std::fill_n(weights + n, (kWidth - n % kWidth) % kWidth, 0.0f);
  each_block(weights, 0, (n + kWidth - 1) / kWidth * kWidth, [&](const Block& block, int64_t i) {
    race.run(
        block, [=](int k) { return offsets_of(tokens + i + k * kWide); },
        [=](int k) { return static_cast<int64_t>(tokens[i + k]); });
  });
}

}  // namespace inferd
