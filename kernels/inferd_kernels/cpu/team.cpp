#include "cpu/team.h"

#include <pthread.h>
#include <signal.h>

#include <cstdio>
#include <cstdlib>
#include <mutex>
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

// The process ends where there is none: some of the threads are in the midst of their parts, and
// the operation's caller could not go on with what they have done.
void* memory(size_t bytes) {
  void* data = std::aligned_alloc(4096, bytes);
  if (data != nullptr) return data;
  std::fprintf(stderr, "inferd's kernels: there are no %zu bytes of memory left\n", bytes);
  std::abort();
}

size_t whole_pages(size_t bytes) { return (bytes + 4095) / 4096 * 4096; }

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
  if (bytes > scratch.bytes) {
    std::free(scratch.data);
    scratch.bytes = whole_pages(bytes);
    scratch.data = memory(scratch.bytes);
  }
  return scratch.data;
}

void Team::grow(size_t bytes) {
  if (bytes <= common_bytes_) return;
  std::free(common_.load(std::memory_order_relaxed));
  common_bytes_ = whole_pages(bytes);
  common_.store(memory(common_bytes_), std::memory_order_relaxed);
}

// A team and its threads beside the caller's, which end with the process.
class Crew {
 public:
  explicit Crew(int size) : team_(size) {
    // Signals are for the threads of the program itself. Where the system gives fewer threads than
    // asked for, those that there are do the work.
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    for (int i = 1; i < size; ++i) {
      pthread_t thread;
      if (pthread_create(&thread, nullptr, enter, this) == 0) pthread_detach(thread);
    }
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
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
  static void* enter(void* crew) {
    static_cast<Crew*>(crew)->work();
    return nullptr;
  }

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
int wanted = 1;           // threads
Crew* current = nullptr;  // of so many; null: none yet, or none in this process after a fork

// Of each size that was ever asked for; never freed, since its threads never end.
std::vector<Crew*>& crews() {
  static auto& all = *new std::vector<Crew*>;
  return all;
}

// A fork waits for the operation that runs. Its child has none of the threads, and makes its own.
void forked() {
  current = nullptr;
  crews().clear();
  one_at_a_time.unlock();
}

void find_crew() {
  static const int once =
      pthread_atfork([] { one_at_a_time.lock(); }, [] { one_at_a_time.unlock(); }, forked);
  (void)once;
  for (Crew* crew : crews())
    if (crew->size() == wanted) {
      current = crew;
      return;
    }
  current = new Crew(wanted);
  crews().push_back(current);
}

}  // namespace

void run(void (*job)(const void* context, Team& team), const void* context) {
  const std::lock_guard<std::mutex> guard(one_at_a_time);
  if (current == nullptr) find_crew();
  current->run(job, context);
}

}  // namespace inferd

extern "C" void inferd_set_threads(int32_t count) {
  const std::lock_guard<std::mutex> guard(inferd::one_at_a_time);
  inferd::wanted = count < 1 ? 1 : count;
  inferd::current = nullptr;
}
