// The threads that run an operation together.
//
// An operation is a function that every thread of the team runs; what there is to do is shared out
// by `each`, in parts. Nobody waits for a thread that has taken no part: one that the system lets
// wait finds the loops that are over and passes them by. What an operation does outside of `each`
// is done by every thread, some of them late; so it only computes from its arguments.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>

namespace inferd {

class Team {
 public:
  explicit Team(int size);

  int size() const { return size_; }

  // Calls f(begin, end) for parts of 0 … n of up to `grain`, each on whichever thread is free;
  // returns on every thread when all are done. What a part computes does not depend on who takes
  // it, and n and grain are the same on all threads. f calls neither `each` nor `shared`.
  template <class F>
  void each(int64_t n, int64_t grain, F&& f) {
    if (n <= 0) return;
    const uint32_t parts = static_cast<uint32_t>((n + grain - 1) / grain);
    const uint32_t loop = position()++;
    for (int64_t part = take(loop, parts); part >= 0; part = take(loop, parts)) {
      f(part * grain, std::min((part + 1) * grain, n));
      finish(loop, parts);
    }
    wait(loop);
  }

  // Memory of the calling thread, 64-byte aligned, valid until its next call of `scratch`.
  template <class T>
  T* scratch(size_t count) {
    return static_cast<T*>(own(count * sizeof(T)));
  }

  // Memory that all threads see, 64-byte aligned, valid until the next call of `shared`; outside
  // of `each`, with the same count on all of them.
  template <class T>
  T* shared(size_t count) {
    each(1, 1, [&](int64_t, int64_t) { grow(count * sizeof(T)); });
    return static_cast<T*>(common_.load(std::memory_order_relaxed));
  }

 private:
  friend class Crew;

  static uint32_t& position();  // the number of the loop that this thread comes to next
  int64_t take(uint32_t loop, uint32_t parts);  // a part that nobody has taken; -1: none is left
  void finish(uint32_t loop, uint32_t parts);
  void wait(uint32_t loop);
  void* own(size_t bytes);
  void grow(size_t bytes);

  const int size_;
  std::atomic<uint64_t> next_{0};  // loop << 32 | the part to be taken next
  std::atomic<uint32_t> done_{0};  // parts of it
  std::atomic<uint32_t> loop_{0};  // the loop that is under way
  std::atomic<void*> common_{nullptr};  // atomic for who reads it late, and makes no use of it
  size_t common_bytes_ = 0;
};

// Runs job(context, team) on the process's team; one caller at a time, who is part of it.
void run(void (*job)(const void* context, Team& team), const void* context);

}  // namespace inferd

// Exports an operation `void name(const Args&, int64_t rows, Team&)` of namespace inferd:
//   inferd_<name>(args, rows)            runs it
//   inferd_<name>_in(args, rows, team)   runs one thread's share, inside another operation
//   inferd_<name>_size()                 sizeof(Args)
#define INFERD_OPERATION(name, Args)                                                          \
  extern "C" void inferd_##name##_in(const void* args, int64_t rows, inferd::Team& team) {    \
    inferd::name(*static_cast<const inferd::Args*>(args), rows, team);                        \
  }                                                                                           \
  extern "C" void inferd_##name(const inferd::Args* args, int64_t rows) {                     \
    struct Call {                                                                             \
      const inferd::Args* args;                                                               \
      int64_t rows;                                                                           \
    } call{args, rows};                                                                       \
    inferd::run(                                                                              \
        [](const void* context, inferd::Team& team) {                                         \
          const Call& call = *static_cast<const Call*>(context);                              \
          inferd::name(*call.args, call.rows, team);                                          \
        },                                                                                    \
        &call);                                                                               \
  }                                                                                           \
  extern "C" int64_t inferd_##name##_size() { return sizeof(inferd::Args); }
