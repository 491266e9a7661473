// The passes of a draw over a chunk of a row.
#pragma once

#include "sampling/largest.h"
#include "sampling/work.h"

namespace inferd {

// Weights of the tokens from `begin` to `end`, and which tiles are live; returns their sum.
double weigh(const Logits& logits, int64_t begin, int64_t end, const Work& work);

// The first of these tokens to arrive in the exponential race, if it is before the likeliest one,
// which it is compared with; ties go to the lower token. `filtered`: few of them may be left.
void race(int64_t begin, int64_t end, const Work& work, bool filtered, Part& part);

}  // namespace inferd
