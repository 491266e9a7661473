// How the rows of a batch are shared out.
//
// A prompt's rows are cut into tiles. Of a sequence with one row, a context is cut into its chunks
// where it is long beside what there is to do in all; what they give is merged in a second loop.
#pragma once

#include <algorithm>

#include "attention/chunk.h"

namespace inferd {

constexpr int64_t kTileQueries = 128;  // of a prompt: how often a copied chunk is used
constexpr int64_t kRowQueries = 64;    // of a single row, at most, where a kv head has fewer
constexpr int64_t kPartsPerThread = 8;

class Plan {
 public:
  struct Sequence {
    int64_t first_part;
    int64_t first_record;  // of what its chunks give, where it is split
    bool split;
  };

  static int64_t bytes(const AttentionBatch& batch) {
    return round_up(batch.num_seqs * static_cast<int64_t>(sizeof(Sequence)), 64);
  }

  Plan(const AttentionArgs& args, int threads, char* memory)
      : args_(args), batch_(*args.batch), sequences_(reinterpret_cast<Sequence*>(memory)) {
    int64_t work = 0;
    for (int64_t b = 0; b < batch_.num_seqs; ++b)
      if (rows(b) == 1) work += chunks(b);
    const int64_t wanted = threads * kPartsPerThread;
    const int64_t group = args.heads / args.kv_heads;
    const int64_t most = std::max<int64_t>(1, kRowQueries / group);
    row_heads_ = std::clamp<int64_t>(args.kv_heads * work / wanted, 1,
                                     std::min(most, args.kv_heads));
    const int64_t share = work * row_sets() / wanted;
    for (int64_t b = 0; b < batch_.num_seqs; ++b) {
      const bool split = rows(b) == 1 && chunks(b) > 1 && chunks(b) > share;
      sequences_[b] = {parts_, records_, split};
      parts_ += sets(b) * (split ? chunks(b) : tiles(b));
      if (split) records_ += row_sets() * chunks(b);
    }
  }

  int64_t parts() const { return parts_; }
  int64_t records() const { return records_; }
  int64_t row_heads() const { return row_heads_; }
  const Sequence& sequence(int64_t b) const { return sequences_[b]; }

  // The sequence that a part belongs to.
  int64_t owner(int64_t part) const {
    const Sequence* after = std::upper_bound(
        sequences_, sequences_ + batch_.num_seqs, part,
        [](int64_t number, const Sequence& sequence) { return number < sequence.first_part; });
    return after - sequences_ - 1;
  }

  // The kv heads are cut into so many sets, each for a part of its own.
  int64_t sets(int64_t b) const { return rows(b) == 1 ? row_sets() : args_.kv_heads; }
  int64_t row_sets() const { return (args_.kv_heads + row_heads_ - 1) / row_heads_; }

  // Tile `unit` of a sequence, the last one first: it takes longest.
  Tile tile(int64_t b, int64_t unit, int64_t set) const {
    const int64_t first = (tiles(b) - 1 - unit) * tile_rows();
    const int64_t heads = rows(b) == 1 ? row_heads_ : 1, head = set * heads;
    return {.blocks = batch_.block_tables + b * batch_.max_blocks,
            .row = batch_.cu_seqlens_q[b] + first,
            .position = batch_.seq_lens[b] - rows(b) + first,
            .rows = std::min(tile_rows(), rows(b) - first),
            .kv_head = head,
            .kv_heads = std::min(heads, args_.kv_heads - head)};
  }

  // The first chunk that a row sees.
  int64_t begin_chunk(int64_t position) const {
    return args_.window == 0 ? 0 : std::max<int64_t>(0, position - args_.window + 1) / kChunk;
  }

  // Of a sequence with one row.
  int64_t chunks(int64_t b) const {
    const int64_t length = batch_.seq_lens[b];
    return (length + kChunk - 1) / kChunk - begin_chunk(length - 1);
  }

 private:
  int64_t rows(int64_t b) const { return batch_.cu_seqlens_q[b + 1] - batch_.cu_seqlens_q[b]; }
  int64_t tiles(int64_t b) const { return (rows(b) + tile_rows() - 1) / tile_rows(); }
  int64_t tile_rows() const {
    return std::max<int64_t>(1, kTileQueries / (args_.heads / args_.kv_heads));
  }

  const AttentionArgs& args_;
  const AttentionBatch& batch_;
  Sequence* const sequences_;
  int64_t row_heads_ = 1;  // kv heads of a part of a single row
  int64_t parts_ = 0;
  int64_t records_ = 0;
};

}  // namespace inferd
