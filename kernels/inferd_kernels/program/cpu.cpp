#include "program/cpu.h"

#include <chrono>
#include <thread>

namespace inferd {
namespace {

struct Run {
  const Instruction* each;
  int64_t count;
  const int64_t* rows;
  int64_t* nanoseconds;  // of each instruction; null: not measured
  std::thread::id caller;
};

int64_t now() {
  const auto time = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::nanoseconds>(time).count();
}

// Every thread walks the list. An operation's last `each` ends on all of them at once, so that
// what it wrote is there for the next one.
void walk(const void* context, Team& team) {
  const Run& run = *static_cast<const Run*>(context);
  const bool timed = run.nanoseconds != nullptr && std::this_thread::get_id() == run.caller;
  for (int64_t i = 0; i < run.count; ++i) {
    const int64_t begin = timed ? now() : 0;
    const Instruction& one = run.each[i];
    one.run(one.args, run.rows[one.counted], team);
    if (timed) run.nanoseconds[i] = now() - begin;
  }
}

}  // namespace
}  // namespace inferd

// Runs the instructions in order; rows[i] is the i-th count of rows. `nanoseconds`, where it is not
// null, takes how long each of them took.
extern "C" void inferd_program_run(const inferd::Instruction* each, int64_t count,
                                   const int64_t* rows, int64_t* nanoseconds) {
  const inferd::Run run{each, count, rows, nanoseconds, std::this_thread::get_id()};
  inferd::run(inferd::walk, &run);
}

extern "C" int64_t inferd_program_size() { return sizeof(inferd::Instruction); }
