// What an adjustment does to a row of logits.
#pragma once

#include <cstdint>

#include "sampling/cpu.h"

namespace inferd {

// out[begin … end) = x, -inf where a token is not allowed; begin is a multiple of 32. `allowed`
// may be null.
void copy_allowed(const float* x, float* out, int64_t begin, int64_t end, const uint32_t* allowed);

// The rest of it: bias, masks and penalties, in place. False: an id lies outside the vocabulary.
bool change_tokens(float* x, int64_t vocab, const Adjustment& change);

}  // namespace inferd
