#include "cpu/team.h"

#include <cstdlib>
#include <mutex>
#include <thread>
#include <vector>

namespace inferd {
namespace {

constexpr int kSpins = 2000;  // some tens of microseconds: the next operation follows at once
constexpr uint32_t kOpen = 1u << 31;

void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Until `value` is no longer `old`: awake for a moment, then asleep.
void await_change(const std::atomic<uint32_t>& value, uint32_t old) {
  for (int i = 0; i < kSpins; ++i) {
    if (value.load(std::memory_order_acquire) != old) return;
    relax();
  }
  while (value.load(std::memory_order_acquire) == old) value.wait(old, std::memory_order_acquire);
}

// Memory for `bytes`; what was in it is lost.
void enlarge(void*& data, size_t& held, size_t bytes) {
  if (bytes <= held) return;
  std::free(data);
  held = (bytes + 4095) / 4096 * 4096;
  data = std::aligned_alloc(4096, held);
  if (data == nullptr) std::abort();
}

struct Scratch {
  void* data = nullptr;
  size_t bytes = 0;
  ~Scratch() { std::free(data); }
};

}  // namespace

Team::Team(int size) : size_(size) {}

uint32_t& Team::position() {
  thread_local uint32_t loop = 0;
  return loop;
}

int64_t Team::take(uint32_t loop, uint32_t parts) {
  uint64_t next = next_.load(std::memory_order_acquire);
  while (next >> 32 == loop && static_cast<uint32_t>(next) < parts) {
    if (next_.compare_exchange_weak(next, next + 1, std::memory_order_acq_rel))
      return static_cast<uint32_t>(next);
  }
  return -1;
}

void Team::finish(uint32_t loop, uint32_t parts) {
  if (done_.fetch_add(1, std::memory_order_acq_rel) + 1 < parts) return;
  done_.store(0, std::memory_order_relaxed);
  next_.store(static_cast<uint64_t>(loop + 1) << 32, std::memory_order_release);
  loop_.store(loop + 1, std::memory_order_release);
  if (size_ > 1) loop_.notify_all();
}

void Team::wait(uint32_t loop) { await_change(loop_, loop); }

void* Team::own(size_t bytes) {
  thread_local Scratch scratch;
  enlarge(scratch.data, scratch.bytes, bytes);
  return scratch.data;
}

void Team::grow(size_t bytes) { enlarge(common_, common_bytes_, bytes); }

// A team and its threads beside the caller's, which end with the process.
class Crew {
 public:
  explicit Crew(int size) : team_(size) {
    for (int i = 1; i < size; ++i) std::thread([this] { work(); }).detach();
  }

  int size() const { return team_.size(); }

  void run(void (*job)(const void*, Team&), const void* context) {
    job_ = job;
    context_ = context;
    first_loop_ = team_.loop_.load(std::memory_order_relaxed);
    if (size() > 1) {
      gate_.store(kOpen, std::memory_order_release);
      calls_.fetch_add(1, std::memory_order_release);
      calls_.notify_all();
    }
    Team::position() = first_loop_;
    job(context, team_);
    if (size() > 1) leave_last();
  }

 private:
  // Nobody comes in any more; those inside find all loops over, and go.
  void leave_last() {
    uint32_t inside = gate_.fetch_and(~kOpen, std::memory_order_acq_rel) & ~kOpen;
    while (inside != 0) {
      await_change(gate_, inside);
      inside = gate_.load(std::memory_order_acquire);
    }
  }

  void work() {
    uint32_t seen = 0;
    for (;;) {
      await_change(calls_, seen);
      seen = calls_.load(std::memory_order_acquire);
      uint32_t gate = gate_.load(std::memory_order_acquire);
      while (gate & kOpen) {
        if (!gate_.compare_exchange_weak(gate, gate + 1, std::memory_order_acq_rel)) continue;
        Team::position() = first_loop_;
        job_(context_, team_);
        gate_.fetch_sub(1, std::memory_order_acq_rel);
        gate_.notify_all();
        break;
      }
    }
  }

  Team team_;
  void (*job_)(const void*, Team&) = nullptr;
  const void* context_ = nullptr;
  uint32_t first_loop_ = 0;
  std::atomic<uint32_t> calls_{0};
  std::atomic<uint32_t> gate_{0};  // kOpen, and how many of the threads are inside
};

namespace {

std::mutex one_at_a_time;
Crew* current = nullptr;

// Of each size that was ever asked for; never freed, since its threads never end.
Crew* crew_of(int size) {
  static auto& crews = *new std::vector<Crew*>;
  for (Crew* crew : crews)
    if (crew->size() == size) return crew;
  crews.push_back(new Crew(size));
  return crews.back();
}

}  // namespace

void run(void (*job)(const void* context, Team& team), const void* context) {
  const std::lock_guard<std::mutex> guard(one_at_a_time);
  if (current == nullptr) current = crew_of(1);
  current->run(job, context);
}

}  // namespace inferd

extern "C" void inferd_set_threads(int32_t count) {
  const std::lock_guard<std::mutex> guard(inferd::one_at_a_time);
  inferd::current = inferd::crew_of(count < 1 ? 1 : count);
}
