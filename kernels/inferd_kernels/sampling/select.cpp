#include "sampling/select.h"

#include <algorithm>
#include <cstring>

#include "sampling/blocks.h"

namespace inferd {
namespace {

constexpr int kShifts[] = {20, 10, 0};  // of the digits
constexpr int kBuckets = 2048;          // the highest digit has 11 bits, the others 10
constexpr int kProbes = 4;
constexpr int kRounds = 2;  // of probes, which leave 1/25 of the logarithmic range

uint32_t digit(uint32_t number, int shift) {
  return shift == 20 ? number >> 20 : number >> shift & 1023;
}

// Keeps the numbers that have this digit; returns how many.
int64_t keep(uint32_t* numbers, int64_t n, int shift, uint32_t bucket) {
  int64_t kept = 0;
  for (int64_t i = 0; i < n; ++i) {
    numbers[kept] = numbers[i];
    kept += digit(numbers[i], shift) == bucket;
  }
  return kept;
}

uint32_t bits_of(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  return bits;
}

float as_float(uint32_t bits) {
  float x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}

// A row's likelihoods; each_tile calls f with the first one of each tile that is live.
struct Likelihoods {
  const float* x;
  const uint8_t* live;
  int64_t n;

  template <class F>
  void each_tile(F&& f) const {
    for (int64_t tile = 0; tile < n / kTile; ++tile)
      if (live[tile]) f(x + tile * kTile);
  }
};

// The bits of likelihoods that the border may have: low <= border < high.
struct Range {
  uint32_t low, high;
};

// Mass of the likelihoods from each of these on, rounded in float32: a guess.
void guess_mass(const Likelihoods& all, const float (&from)[kProbes], double (&mass)[kProbes]) {
  Mass sums[kProbes];
  all.each_tile([&](const float* x) {
    Block tile[kProbes] = {};
    for (int64_t i = 0; i < kTile; i += kWidth) {
      const Block y = load_block(x + i);
#pragma GCC unroll 4
      for (int k = 0; k < kProbes; ++k)
        for (int p = 0; p < kParts; ++p)
          tile[k].part[p] += y.part[p] >= splat(from[k]) ? y.part[p] : f32v{};
    }
    for (int k = 0; k < kProbes; ++k) sums[k].add(tile[k]);
  });
  for (int k = 0; k < kProbes; ++k) mass[k] = sums[k].total();
}

// A part of the range that has the border in it, as far as one can tell.
Range narrow(const Likelihoods& all, Range range, double target) {
  const uint32_t step = (range.high - range.low) / (kProbes + 1);
  if (step == 0) return range;
  float from[kProbes];
  double mass[kProbes];
  for (int k = 0; k < kProbes; ++k) from[k] = as_float(range.low + (k + 1) * step);
  guess_mass(all, from, mass);
  for (int k = kProbes - 1; k >= 0; --k) {
    if (mass[k] >= target) return {bits_of(from[k]), range.high};
    range.high = bits_of(from[k]);
  }
  return range;
}

// The bits of likelihoods within the range in `list`; returns how many. `above` becomes the mass
// of the larger ones.
int64_t collect(const Likelihoods& all, Range range, uint32_t* list, double& above) {
  const float low = as_float(range.low), high = as_float(range.high);
  int64_t count = 0;
  Mass mass;
  all.each_tile([&](const float* x) {
    for (int64_t i = 0; i < kTile; i += kWidth) {
      const Block y = load_block(x + i);
      mass.add(map(y, [&](f32v part) { return part >= splat(high) ? part : f32v{}; }));
      each_bit(at_least(y, low) & ~at_least(y, high),
               [&](int k) { list[count++] = bits_of(x[i + k]); });
    }
  });
  above = mass.total();
  return count;
}

// The bucket in which the target is reached, from the highest on, and in `above` the mass of the
// higher ones. -1: it is not reached.
int64_t descend(const uint32_t* list, int64_t n, int shift, double target, double& above) {
  double mass[kBuckets] = {};
  for (int64_t i = 0; i < n; ++i) mass[digit(list[i], shift)] += as_float(list[i]);
  for (int64_t b = kBuckets - 1; b >= 0; --b) {
    if (mass[b] == 0.0) continue;
    if (above + mass[b] >= target) return b;
    above += mass[b];
  }
  return -1;
}

// The border among n numbers, which it overwrites; 0 where the target is not reached.
float border_among(uint32_t* list, int64_t n, double target, double above) {
  uint32_t border = 0;
  for (const int shift : kShifts) {
    int64_t bucket = descend(list, n, shift, target, above);
    if (bucket < 0) {
      if (shift == kShifts[0]) return 0.0f;
      bucket = digit(*std::min_element(list, list + n), shift);  // but for rounding it was
    }
    border |= static_cast<uint32_t>(bucket) << shift;
    n = keep(list, n, shift, static_cast<uint32_t>(bucket));
  }
  return as_float(border);
}

}  // namespace

uint32_t kth_smallest(uint32_t* numbers, int64_t n, int64_t k) {
  uint32_t found = 0;
  for (const int shift : kShifts) {
    uint32_t counts[kBuckets] = {};
    for (int64_t i = 0; i < n; ++i) ++counts[digit(numbers[i], shift)];
    uint32_t bucket = 0;
    for (; counts[bucket] < k; ++bucket) k -= counts[bucket];
    found |= bucket << shift;
    if (shift != 0) n = keep(numbers, n, shift, bucket);
  }
  return found;
}

float nucleus_border(const float* likelihoods, const uint8_t* live, int64_t n, double target,
                     float least, uint32_t* list) {
  const Likelihoods all{likelihoods, live, n};
  const Range whole{bits_of(least), bits_of(1.0f) + 1};
  Range range = whole;
  for (int i = 0; i < kRounds; ++i) range = narrow(all, range, target);
  double above;
  int64_t count = collect(all, range, list, above);
  if (above < target) {
    const float border = border_among(list, count, target, above);
    if (border > 0.0f) return border;
  }
  // The guess was wrong, by rounding, or the target is 0.
  count = collect(all, whole, list, above);
  return border_among(list, count, target, above);
}

}  // namespace inferd
