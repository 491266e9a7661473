#include "attention/cpu.h"

#include "attention/chunk.h"
#include "attention/plan.h"

namespace inferd {
namespace {

constexpr int64_t kPartKeys = 2048;  // of all heads: what is worth to be taken by a thread

// What one chunk of a split sequence gave for a set of heads: [queries] of Seen, then their
// [queries][width] outputs.
struct Records {
  float* data;
  int64_t queries;
  int64_t width;

  int64_t head() const { return round_up(2 * queries, 16); }
  int64_t size() const { return head() + queries * width; }
  Seen* seen(int64_t i) const { return reinterpret_cast<Seen*>(data + i * size()); }
  float* out(int64_t i) const { return data + i * size() + head(); }
};

template <class T>
void run_part(const Plan& plan, int64_t part, const Records& records, Attend<T>& attend) {
  const int64_t b = plan.owner(part);
  const Plan::Sequence& sequence = plan.sequence(b);
  part -= sequence.first_part;
  const int64_t unit = part / plan.sets(b), set = part % plan.sets(b);
  const Tile tile = plan.tile(b, sequence.split ? 0 : unit, set);
  const int64_t first = plan.begin_chunk(tile.position);
  attend.begin(tile);
  if (sequence.split) {
    attend.chunk(first + unit);
    const int64_t record = sequence.first_record + part;
    attend.save(records.seen(record), records.out(record));
    return;
  }
  for (int64_t c = first; c * kChunk < tile.position + tile.rows; ++c) attend.chunk(c);
  attend.write();
}

// What the chunks of a split sequence's row gave, in their order.
template <class T>
void merge_records(const Plan& plan, int64_t b, int64_t set, const Records& records,
                   Attend<T>& attend) {
  attend.begin(plan.tile(b, 0, set));
  for (int64_t c = 0; c < plan.chunks(b); ++c) {
    const int64_t record = plan.sequence(b).first_record + c * plan.row_sets() + set;
    attend.merge_chunk(records.seen(record), records.out(record));
  }
  attend.write();
}

template <class T>
void attention_of(const AttentionArgs& args, Team& team) {
  const AttentionBatch& batch = *args.batch;
  const int64_t group = args.heads / args.kv_heads;
  const int64_t max_queries = std::max({group, kTileQueries, kRowQueries});
  char* memory = team.scratch<char>(Plan::bytes(batch) + Attend<T>::bytes(args, max_queries));
  const Plan plan(args, team.size(), memory);
  Attend<T> attend(args, max_queries, memory + Plan::bytes(batch));
  Records records{nullptr, plan.row_heads() * group, Attend<T>::width(args)};
  if (plan.records() > 0) records.data = team.shared<float>(plan.records() * records.size());

  const int64_t fair = plan.parts() / (team.size() * kPartsPerThread);
  const int64_t keys = std::max<int64_t>(1, batch.max_seqlen_k * plan.row_heads());
  const int64_t grain = std::max<int64_t>(1, std::min(kPartKeys / keys, fair));
  team.each(plan.parts(), grain, [&](int64_t begin, int64_t end) {
    for (int64_t part = begin; part < end; ++part) run_part(plan, part, records, attend);
  });
  if (plan.records() == 0) return;
  team.each(batch.num_seqs * plan.row_sets(), 1, [&](int64_t i, int64_t) {
    const int64_t b = i / plan.row_sets();
    if (plan.sequence(b).split) merge_records(plan, b, i % plan.row_sets(), records, attend);
  });
}

}  // namespace

void attention(const AttentionArgs& args, int64_t rows, Team& team) {
  if (rows == 0) return;
  with_type(args.dtype, [&](auto zero) { attention_of<decltype(zero)>(args, team); });
}

}  // namespace inferd

INFERD_OPERATION(attention, AttentionArgs)
