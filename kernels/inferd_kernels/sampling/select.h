// Order statistics without sorting: digit by digit, from the highest, of numbers' bits.
#pragma once

#include <cstdint>

namespace inferd {

// The k-th smallest (from 1) of n numbers below 2^31; overwrites them.
uint32_t kth_smallest(uint32_t* numbers, int64_t n, int64_t k);

// The smallest likelihood in the nucleus: the least v of which the likelihoods above v sum to less
// than `target`; 0 where even all of them do not reach it.
//
// Likelihoods are in 0 … 1, n of them, n a multiple of a tile; only tiles that are live count, and
// what is at least `least`: the caller knows that the border is not below it. `list` has room for
// n numbers.
float nucleus_border(const float* likelihoods, const uint8_t* live, int64_t n, double target,
                     float least, uint32_t* list);

}  // namespace inferd
