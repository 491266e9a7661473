#include "sampling/select.h"

#include <cstring>

#include "sampling/blocks.h"

namespace inferd {
namespace {

constexpr int kShifts[] = {20, 10, 0};  // of the digits
constexpr int kBuckets = 2048;          // the highest digit has 11 bits, the others 10

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

// Walks through buckets of mass from the highest.
class Descent {
 public:
  explicit Descent(double target) : target_(target) {}

  // The bucket in which the target is reached; where none is, the lowest that is not empty, or -1.
  int64_t next(const double* mass) {
    int64_t last = -1;
    double before = above_;
    for (int64_t b = kBuckets - 1; b >= 0; --b) {
      if (mass[b] == 0.0) continue;
      before = above_;
      last = b;
      if (above_ + mass[b] >= target_) return last;
      above_ += mass[b];
    }
    above_ = before;
    reached_ = false;
    return last;
  }

  bool reached() const { return reached_; }

 private:
  const double target_;
  double above_ = 0.0;
  bool reached_ = true;
};

float as_float(uint32_t bits) {
  float x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}

// Calls f(block, index) for the blocks of live tiles that have a likelihood of `least`.
template <class F>
void each_live(const float* likelihoods, const uint8_t* live, int64_t n, float least, F&& f) {
  for (int64_t tile = 0; tile < n / kTile; ++tile) {
    if (!live[tile]) continue;
    each_block(likelihoods, tile * kTile, (tile + 1) * kTile, [&](const Block& x, int64_t i) {
      if (const uint32_t bits = at_least(x, least)) f(x, i, bits);
    });
  }
}

void add_by_digit(const uint32_t* numbers, int64_t n, int shift, double* mass) {
  std::memset(mass, 0, kBuckets * sizeof *mass);
  for (int64_t i = 0; i < n; ++i) mass[digit(numbers[i], shift)] += as_float(numbers[i]);
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
  double mass[kBuckets] = {};
  each_live(likelihoods, live, n, least, [&](const Block&, int64_t i, uint32_t) {
    uint32_t bits[kWidth];
    std::memcpy(bits, likelihoods + i, sizeof bits);
    for (int k = 0; k < kWidth; ++k) mass[bits[k] >> 20] += as_float(bits[k]);
  });
  Descent descent(target);
  const int64_t first = descent.next(mass);
  if (!descent.reached()) return 0.0f;
  uint32_t border = static_cast<uint32_t>(first) << 20;
  const uint32_t end = border + (1u << 20);
  int64_t count = 0;
  each_live(likelihoods, live, n, as_float(border), [&](const Block&, int64_t i, uint32_t bits) {
    each_bit(bits, [&](int k) {
      uint32_t number;
      std::memcpy(&number, likelihoods + i + k, sizeof number);
      if (number < end) list[count++] = number;
    });
  });
  for (const int shift : kShifts) {
    if (shift == kShifts[0]) continue;
    add_by_digit(list, count, shift, mass);
    const int64_t bucket = descent.next(mass);
    border |= static_cast<uint32_t>(bucket) << shift;
    count = keep(list, count, shift, static_cast<uint32_t>(bucket));
  }
  return as_float(border);
}

}  // namespace inferd
