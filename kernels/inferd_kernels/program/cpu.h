#pragma once

#include <cstdint>

#include "cpu/team.h"

namespace inferd {

// One operation of a program: its `inferd_<name>_in`, its arguments, and which of the run's counts
// of rows it works on. program/__init__.py mirrors this.
struct Instruction {
  void (*run)(const void* args, int64_t rows, Team& team);
  const void* args;
  int64_t counted;
};

}  // namespace inferd
