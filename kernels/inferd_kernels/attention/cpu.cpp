#include "attention/cpu.h"

#include <algorithm>

#include "attention/chunk.h"

namespace inferd {
namespace {

constexpr int64_t kTileQueries = 128;  // of a prompt: how often a copied chunk is used
constexpr int64_t kPartsPerThread = 8;
constexpr int64_t kPartKeys = 2048;  // of a part of many short contexts

// What there is to do: each sequence's part numbers, one after another.
//
// A prompt's rows are cut into tiles. Of a sequence with one row, long contexts are cut into their
// chunks where there are too few sequences to share out; what each gives is merged in a second loop.
class Plan {
 public:
  struct Sequence {
    int64_t first_part;
    int64_t first_record;  // of what its chunks give
    bool split;
  };

  Plan(const AttentionArgs& args, int threads, Sequence* sequences)
      : args_(args), batch_(*args.batch), sequences_(sequences) {
    const int64_t share = total_chunks() * args.kv_heads / (threads * kPartsPerThread);
    for (int64_t b = 0; b < batch_.num_seqs; ++b) {
      const int64_t rows = new_rows(b), chunks = end_chunk(b) - begin_chunk(b);
      const bool split = rows == 1 && chunks > 1 && chunks > share;
      sequences_[b] = {parts_, records_, split};
      parts_ += args.kv_heads * (split ? chunks : (rows + tile_rows() - 1) / tile_rows());
      if (split) records_ += args.kv_heads * chunks;
    }
  }

  int64_t parts() const { return parts_; }
  int64_t records() const { return records_; }
  const Sequence& sequence(int64_t b) const { return sequences_[b]; }

  // The sequence that a part belongs to.
  int64_t owner(int64_t part) const {
    const auto* after = std::upper_bound(
        sequences_, sequences_ + batch_.num_seqs, part,
        [](int64_t number, const Sequence& sequence) { return number < sequence.first_part; });
    return after - sequences_ - 1;
  }

  int64_t new_rows(int64_t b) const { return batch_.cu_seqlens_q[b + 1] - batch_.cu_seqlens_q[b]; }
  int64_t tile_rows() const {
    return std::max<int64_t>(1, kTileQueries / (args_.heads / args_.kv_heads));
  }

  // The chunks that the rows of a tile see. (The one in question is the sequence's last.)
  int64_t begin_chunk(int64_t b) const { return begin_chunk_at(batch_.seq_lens[b] - new_rows(b)); }
  int64_t end_chunk(int64_t b) const { return (batch_.seq_lens[b] + kChunk - 1) / kChunk; }
  int64_t begin_chunk_at(int64_t position) const {
    return args_.window == 0 ? 0 : std::max<int64_t>(0, position - args_.window + 1) / kChunk;
  }

  // Tile `unit` of a sequence, the last one first: it takes longest.
  Tile tile(int64_t b, int64_t unit, int64_t kv_head) const {
    const int64_t rows = new_rows(b), tiles = (rows + tile_rows() - 1) / tile_rows();
    const int64_t first = (tiles - 1 - unit) * tile_rows();
    return {batch_.block_tables + b * batch_.max_blocks, kv_head, batch_.cu_seqlens_q[b] + first,
            batch_.seq_lens[b] - rows + first, std::min(tile_rows(), rows - first)};
  }

 private:
  int64_t total_chunks() const {
    int64_t total = 0;
    for (int64_t b = 0; b < batch_.num_seqs; ++b) total += end_chunk(b) - begin_chunk(b);
    return total;
  }

  const AttentionArgs& args_;
  const AttentionBatch& batch_;
  Sequence* const sequences_;
  int64_t parts_ = 0;
  int64_t records_ = 0;
};

// What one chunk gave for the heads of a kv head: [group] of Seen, then [group][width] outputs.
struct Records {
  float* data;
  int64_t group;
  int64_t width;

  int64_t size() const { return round_up(2 * group, 16) + group * width; }
  Seen* seen(int64_t i) const { return reinterpret_cast<Seen*>(data + i * size()); }
  float* out(int64_t i) const { return data + i * size() + round_up(2 * group, 16); }
};

template <class T>
void run_part(const AttentionArgs& args, const Plan& plan, int64_t part, const Records& records,
              Attend<T>& attend) {
  const int64_t b = plan.owner(part);
  const Plan::Sequence& sequence = plan.sequence(b);
  const int64_t unit = (part - sequence.first_part) / args.kv_heads;
  const int64_t kv_head = (part - sequence.first_part) % args.kv_heads;
  if (sequence.split) {
    attend.begin(plan.tile(b, 0, kv_head));
    attend.chunk(plan.begin_chunk(b) + unit);
    const int64_t record = sequence.first_record + part - sequence.first_part;
    std::copy_n(attend.seen(), records.group, records.seen(record));
    std::copy_n(attend.out(), records.group * records.width, records.out(record));
    return;
  }
  const Tile tile = plan.tile(b, unit, kv_head);
  attend.begin(tile);
  for (int64_t c = plan.begin_chunk_at(tile.position); c * kChunk < tile.position + tile.rows; ++c)
    attend.chunk(c);
  attend.write();
}

// The chunks of a split sequence's row, in their order.
template <class T>
void merge_chunks(const AttentionArgs& args, const Plan& plan, int64_t b, int64_t kv_head,
                  const Records& records, float* out) {
  const int64_t chunks = plan.end_chunk(b) - plan.begin_chunk(b);
  for (int64_t g = 0; g < records.group; ++g) {
    Seen seen;
    std::fill_n(out, records.width, 0.0f);
    for (int64_t c = 0; c < chunks; ++c) {
      const int64_t record = plan.sequence(b).first_record + c * args.kv_heads + kv_head;
      merge(seen, out, records.seen(record)[g], records.out(record) + g * records.width,
            records.width);
    }
    Attend<T>::write_query(args, plan.tile(b, 0, kv_head), g, out, seen.total);
  }
}

template <class T>
void attention_of(const AttentionArgs& args, Team& team) {
  const AttentionBatch& batch = *args.batch;
  const int64_t group = args.heads / args.kv_heads;
  const int64_t max_queries =
      batch.max_seqlen_q == 1 ? group : std::max(group, kTileQueries / group * group);
  const int64_t plan_bytes =
      round_up(batch.num_seqs * static_cast<int64_t>(sizeof(Plan::Sequence)), 64);
  char* memory = team.scratch<char>(plan_bytes + Attend<T>::bytes(args, max_queries));
  const Plan plan(args, team.size(), reinterpret_cast<Plan::Sequence*>(memory));
  Attend<T> attend(args, max_queries, memory + plan_bytes);
  Records records{nullptr, group, Attend<T>::width(args)};
  if (plan.records() > 0) records.data = team.shared<float>(plan.records() * records.size());

  const int64_t fair = plan.parts() / (team.size() * kPartsPerThread);
  const int64_t grain = std::clamp<int64_t>(kPartKeys / batch.max_seqlen_k, 1, std::max<int64_t>(1, fair));
  team.each(plan.parts(), grain, [&](int64_t begin, int64_t end) {
    for (int64_t part = begin; part < end; ++part) run_part(args, plan, part, records, attend);
  });
  if (plan.records() == 0) return;
  team.each(batch.num_seqs * args.kv_heads, 1, [&](int64_t begin, int64_t) {
    const int64_t b = begin / args.kv_heads;
    if (plan.sequence(b).split)
      merge_chunks<T>(args, plan, b, begin % args.kv_heads, records,
                      const_cast<float*>(attend.out()));
  });
}

}  // namespace

void attention(const AttentionArgs& args, int64_t rows, Team& team) {
  if (rows == 0) return;
  with_type(args.dtype, [&](auto zero) { attention_of<decltype(zero)>(args, team); });
}

}  // namespace inferd

INFERD_OPERATION(attention, AttentionArgs)
