// Drives the team: what its threads write together is checked number by number.
#include <pthread.h>

#include <cstdio>
#include <cstdlib>

#include "cpu/team.h"

namespace {

struct Job {
  int64_t loops;
  int64_t n;
  int64_t grain;
  std::atomic<int64_t> wrong{0};
};

// In each loop every part fills its share of the common memory by way of its own; then it is read
// in parts of another size.
void work(const void* context, inferd::Team& team) {
  Job& job = *static_cast<Job*>(const_cast<void*>(context));
  for (int64_t loop = 0; loop < job.loops; ++loop) {
    const int64_t n = job.n + loop % 3 * 1000;
    int64_t* common = team.shared<int64_t>(n);
    team.each(n, job.grain, [&](int64_t begin, int64_t end) {
      int64_t* own = team.scratch<int64_t>(end - begin + loop);
      for (int64_t i = begin; i < end; ++i) own[i - begin] = i * 31 + loop;
      for (int64_t i = begin; i < end; ++i) common[i] = own[i - begin];
    });
    team.each(n, job.grain + 3, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i)
        if (common[i] != i * 31 + loop) job.wrong.fetch_add(1, std::memory_order_relaxed);
    });
  }
}

}  // namespace

extern "C" void inferd_set_threads(int32_t count);

// Numbers that are wrong, after so many runs.
extern "C" int64_t team_stress(int64_t runs, int64_t loops, int64_t n, int64_t grain) {
  int64_t wrong = 0;
  for (int64_t run = 0; run < runs; ++run) {
    Job job{loops, n, grain};
    inferd::run(work, &job);
    wrong += job.wrong.load();
  }
  return wrong;
}

// For ThreadSanitizer, which wants a program: two callers, on as many threads as the argument says.
int main(int count, char** arguments) {
  inferd_set_threads(count > 1 ? std::atoi(arguments[1]) : 3);
  static std::atomic<int64_t> wrong{0};
  const auto call = [](void*) -> void* {
    wrong += team_stress(300, 5, 700, 16);
    wrong += team_stress(300, 1, 3, 1);
    return nullptr;
  };
  pthread_t other;
  pthread_create(&other, nullptr, call, nullptr);
  call(nullptr);
  pthread_join(other, nullptr);
  std::printf("%lld wrong\n", static_cast<long long>(wrong.load()));
  return wrong.load() != 0;
}
