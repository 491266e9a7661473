#include <algorithm>
#include <cfloat>
#include <cmath>

#include "sampling/changes.h"
#include "sampling/draw.h"
#include "sampling/largest.h"
#include "sampling/noise.h"
#include "sampling/work.h"

namespace inferd {
namespace {

// A thread that works alone, in place of a team.
struct Alone {
  template <class F>
  void each(int64_t n, int64_t, F&& f) {
    for (int64_t i = 0; i < n; ++i) f(i, i + 1);
  }
};

// Maxima of the chunk's tiles; returns the bits of its largest magnitude.
uint32_t scan(const float* x, int64_t begin, int64_t end, float* maxima) {
  i32v worst{};
  for (int64_t tile = begin; tile < end; tile += kTile) {
    Block largest;
    for (int p = 0; p < kParts; ++p) largest.part[p] = splat(-kInfinity);
    each_block(x, tile, std::min(tile + kTile, end), [&](const Block& y, int64_t) {
      for (int p = 0; p < kParts; ++p) {
        largest.part[p] = max(y.part[p], largest.part[p]);
        const i32v magnitude = (i32v)y.part[p] & 0x7fffffff;
        worst = magnitude > worst ? magnitude : worst;
      }
    });
    store_block(maxima + tile / kTile * kWidth, largest);
  }
  int32_t most = 0;
  for (int i = 0; i < kLanes; ++i) most = std::max(most, static_cast<int32_t>(worst[i]));
  return static_cast<uint32_t>(most);
}

float largest_of(const float* maxima, int64_t tiles) {
  f32v largest = splat(-kInfinity);
  for (int64_t i = 0; i < tiles * kWidth; i += kLanes) largest = max(load(maxima + i), largest);
  return max(largest);
}

// The first token with this logit, which is the largest.
int64_t first_of(const Logits& logits, float largest) {
  int64_t tile = 0;
  while (at_least(load_block(logits.maxima + tile * kWidth), largest) == 0) ++tile;
  const float* end = logits.x + std::min((tile + 1) * kTile, logits.vocab);
  return std::find(logits.x + tile * kTile, end, largest) - logits.x;
}

// Sum of e^y over the chunk, and how many of its tokens rank before `token`.
void tally(const float* x, int64_t begin, int64_t end, const View& view, int64_t token,
           Part& part) {
  const f32v given = splat(view(x[token]));
  i32v lanes;
  for (int i = 0; i < kLanes; ++i) lanes[i] = i;
  i32v ahead{};
  Mass mass;
  view.with_steps([&](auto&& steps) {
    each_block(x, begin, end, [&](const Block& block, int64_t i) {
      const Block y = map(block, steps);
      for (int p = 0; p < kParts; ++p) {
        const int32_t before = static_cast<int32_t>(token - i - p * kLanes);
        ahead -= (y.part[p] > given) | ((y.part[p] == given) & (lanes < before));
      }
      mass.add(map(y, exp_of_negative));
    });
  });
  part.mass = mass.total();
  part.ahead = 0;
  for (int i = 0; i < kLanes; ++i) part.ahead += ahead[i];
}

// One row's part of an operation.
struct Task {
  const ChooseArgs& args;
  const int64_t index;
  const Work& work;

  const ChooseRow& row() const { return args.rows[index]; }
  bool draws() const { return row().token < 0 && !row().greedy; }
  bool cuts() const { return row().top_k > 0 && row().top_k < args.vocab; }
  bool filters() const { return row().top_p < 1.0f || row().min_p > 0.0f || cuts(); }
  int64_t chunks() const { return chunks_of(args.vocab); }
  int64_t end(int64_t chunk) const { return std::min((chunk + 1) * kChunk, args.vocab); }
  Logits raw() const {
    return {args.logits + index * args.stride, work.raw_maxima, args.vocab};
  }
  Logits adjusted() const {
    return row().adjustment ? Logits{work.adjusted, work.maxima, args.vocab} : raw();
  }
};

// The tokens that the filters before top_p keep have at least this value.
float least_value(const Task& task, const View& view) {
  const ChooseRow& row = task.row();
  float least = -kInfinity;
  if (row.min_p > 0.0f) least = std::log(row.min_p);
  if (task.cuts())
    least = std::max(least, kth_largest(task.adjusted(), view, row.top_k, task.work.list));
  return least;
}

bool is_finite(uint32_t worst, float largest) {
  return worst <= kInfiniteBits && std::fabs(largest) < kInfinity;
}

int32_t health_of(const Task& task, float largest_raw, float largest) {
  uint32_t worst_raw = 0, worst = 0;
  for (int64_t c = 0; c < task.chunks(); ++c) {
    worst_raw = std::max(worst_raw, task.work.parts[c].worst_raw);
    worst = std::max(worst, task.work.parts[c].worst);
  }
  if (!is_finite(worst_raw, largest_raw)) return kNotFinite;
  return is_finite(worst, largest) ? kHealthy : kNothingLeft;
}

// What a row's maxima say: its health, its likeliest token, and what the first filters drop.
void settle(const Task& task) {
  const ChooseRow& row = task.row();
  State& state = *task.work.state;
  const Logits logits = task.adjusted();
  const int64_t tiles = tiles_of(logits.vocab);
  const float largest_raw = largest_of(task.raw().maxima, tiles);
  const float largest = largest_of(logits.maxima, tiles);
  if (state.health == kHealthy) state.health = health_of(task, largest_raw, largest);
  if (row.token >= logits.vocab) state.health = kNoSuchToken;
  if (state.health != kHealthy) return;
  state.token = row.token >= 0 ? row.token : first_of(logits, largest);
  state.scored =
      row.scale != 0.0f ? View::scored(largest, row.scale) : View::scored(largest_raw, 1.0f);
  if (!task.draws()) return;
  state.view = View::drawn(largest, row.temperature);
  state.stream = stream_of(row.seed, row.position);
  state.finish = finish(uniform(state.stream, offsets_from(state.token))[0], 1.0);
  state.least_value = least_value(task, state.view);
  state.least_weight = FLT_MIN;
}

template <class Executor>
void prepare(const Task& task, Executor& team) {
  const Adjustment* change = task.row().adjustment;
  const Logits raw = task.raw();
  const Work& work = task.work;
  team.each(task.chunks(), 1, [&](int64_t c, int64_t) {
    const int64_t begin = c * kChunk, end = task.end(c);
    work.parts[c].worst_raw = scan(raw.x, begin, end, work.raw_maxima);
    work.parts[c].worst = 0;
    if (change != nullptr) copy_allowed(raw.x, work.adjusted, begin, end, change->allowed);
  });
  team.each(1, 1, [&](int64_t, int64_t) {
    const bool inside = change == nullptr || change_tokens(work.adjusted, raw.vocab, *change);
    work.state->health = inside ? kHealthy : kNoSuchToken;
  });
  if (change != nullptr) {
    team.each(task.chunks(), 1, [&](int64_t c, int64_t) {
      work.parts[c].worst = scan(work.adjusted, c * kChunk, task.end(c), work.maxima);
    });
  }
  team.each(1, 1, [&](int64_t, int64_t) { settle(task); });
}

void cut_nucleus(const Task& task) {
  const Work& work = task.work;
  const int64_t n = padded(task.args.vocab);
  const double top_p = task.row().top_p;
  double mass = 0.0;
  for (int64_t c = 0; c < task.chunks(); ++c) mass += work.parts[c].mass;
  // Were all tokens below this dropped, more than top_p of the mass would still be left.
  const double least = 0.999 * (1.0 - top_p) * mass / static_cast<double>(n);
  const float border = nucleus_border(work.weights, work.live, n, top_p * mass,
                                      static_cast<float>(least), work.list);
  work.state->least_weight = std::max(border, FLT_MIN);
}

template <class Executor>
void draw(const Task& task, Executor& team) {
  const Work& work = task.work;
  State& state = *work.state;
  team.each(task.chunks(), 1, [&](int64_t c, int64_t) {
    if (state.health == kHealthy)
      work.parts[c].mass = weigh(task.adjusted(), c * kChunk, task.end(c), work);
  });
  if (task.row().top_p < 1.0f) {
    team.each(1, 1, [&](int64_t, int64_t) {
      if (state.health == kHealthy) cut_nucleus(task);
    });
  }
  team.each(task.chunks(), 1, [&](int64_t c, int64_t) {
    if (state.health == kHealthy)
      race(c * kChunk, task.end(c), work, task.filters(), work.parts[c]);
  });
  team.each(1, 1, [&](int64_t, int64_t) {
    if (state.health != kHealthy) return;
    for (int64_t c = 0; c < task.chunks(); ++c) {
      const Part& part = work.parts[c];
      if (part.finish > state.finish) continue;
      if (part.finish == state.finish && part.token >= state.token) continue;
      state.finish = part.finish;
      state.token = part.token;
    }
  });
}

// The `count` largest values, the lower token first among equals.
void write_top(const Task& task, const Logits& logits, const View& view, float log_total) {
  const int64_t count = std::min<int64_t>(task.row().top, logits.vocab);
  if (count == 0) return;
  float least = bound_of_largest(logits, view, count, task.work.list);
  // A heap of (magnitude, token), the last of them on top.
  uint64_t* heap = reinterpret_cast<uint64_t*>(task.work.list);
  int64_t size = 0;
  each_from(logits, view, [&] { return least; }, [&](float y, int64_t token) {
    const uint64_t key = static_cast<uint64_t>(magnitude(y)) << 32 | static_cast<uint64_t>(token);
    if (size == count) {
      if (key > heap[0]) return;
      std::pop_heap(heap, heap + size--);
    }
    heap[size++] = key;
    std::push_heap(heap, heap + size);
    if (size == count) least = value(static_cast<uint32_t>(heap[0] >> 32));
  });
  std::sort_heap(heap, heap + size);
  for (int64_t i = 0; i < count; ++i) {
    const int64_t at = task.index * task.args.max_top + i;
    task.args.top_ids[at] = static_cast<int64_t>(heap[i] & 0xffffffff);
    task.args.top_logprobs[at] = value(static_cast<uint32_t>(heap[i] >> 32)) - log_total;
  }
}

void write_scores(const Task& task, const Logits& logits) {
  const ChooseRow& row = task.row();
  State& state = *task.work.state;
  const View view = state.scored;
  double mass = 0.0;
  int64_t ahead = 0;
  for (int64_t c = 0; c < task.chunks(); ++c) {
    mass += task.work.parts[c].mass;
    ahead += task.work.parts[c].ahead;
  }
  const float log_total = static_cast<float>(std::log(mass));
  task.args.logprobs[task.index] = view(logits.x[state.token]) - log_total;
  task.args.ranks[task.index] = ahead + 1;
  for (int64_t i = 0; i < row.num_extra; ++i) {
    const int64_t at = task.index * task.args.max_extra + i;
    const int64_t token = task.args.extra[at];
    if (token < 0 || token >= logits.vocab) {
      state.health = kNoSuchToken;
      return;
    }
    task.args.extra_logprobs[at] = view(logits.x[token]) - log_total;
  }
  write_top(task, logits, view, log_total);
}

template <class Executor>
void score(const Task& task, Executor& team) {
  const State& state = *task.work.state;
  const Logits logits = task.row().scale != 0.0f ? task.adjusted() : task.raw();
  team.each(task.chunks(), 1, [&](int64_t c, int64_t) {
    if (state.health == kHealthy)
      tally(logits.x, c * kChunk, task.end(c), state.scored, state.token, task.work.parts[c]);
  });
  team.each(1, 1, [&](int64_t, int64_t) {
    if (state.health == kHealthy) write_scores(task, logits);
  });
}

template <class Executor>
void choose_row(const Task& task, Executor& team) {
  prepare(task, team);
  if (task.draws()) draw(task, team);
  if (task.row().top >= 0) score(task, team);
  team.each(1, 1, [&](int64_t, int64_t) {
    const State& state = *task.work.state;
    task.args.health[task.index] = state.health;
    task.args.tokens[task.index] = state.health == kHealthy ? state.token : 0;
  });
}

}  // namespace

// Each row by one thread, which has it in its cache; the rows that are left over, by all of them.
void choose(const ChooseArgs& args, int64_t rows, Team& team) {
  const int64_t left = args.vocab > kChunk ? rows % team.size() : 0;
  const size_t bytes = Work::bytes(args.vocab);
  team.each(rows - left, 1, [&](int64_t begin, int64_t end) {
    Work work;
    work.place(team.scratch<char>(bytes), args.vocab);
    Alone alone;
    for (int64_t index = begin; index < end; ++index) choose_row(Task{args, index, work}, alone);
  });
  if (left == 0) return;
  Work work;
  work.place(team.shared<char>(bytes), args.vocab);
  for (int64_t index = rows - left; index < rows; ++index)
    choose_row(Task{args, index, work}, team);
}

}  // namespace inferd

INFERD_OPERATION(choose, ChooseArgs)
