// Attention of a tile of queries, one chunk of its sequence's positions after another.
//
// Chunks begin at multiples of kChunk, wherever a prompt was cut, and what they give is merged in
// their order: both are the same for a row alone and for one among others.
#pragma once

#include <algorithm>

#include "attention/cpu.h"
#include "attention/softmax.h"
#include "attention/values.h"
#include "cpu/dots.h"

namespace inferd {

constexpr int64_t kChunk = 256;        // positions
constexpr int64_t kBlockQueries = 16;  // of a prompt, whose scores are held at a time
constexpr int64_t kBlockKeys = 64;     // whose copied values stay in the first cache meanwhile

inline int64_t round_up(int64_t n, int64_t step) { return (n + step - 1) / step * step; }

// Rows of one sequence with the heads of some kv heads.
struct Tile {
  const int32_t* blocks;
  int64_t row;       // the first one, in q and out
  int64_t position;  // of that row
  int64_t rows;
  int64_t kv_head;  // the first one
  int64_t kv_heads;
};

// One thread's memory and work.
template <class T>
class Attend {
 public:
  // `memory` is `bytes` of it; where it is null, only they are counted.
  Attend(const AttentionArgs& args, int64_t max_queries, char* memory)
      : args_(args),
        group_(args.heads / args.kv_heads),
        width_(width(args)),
        memory_(memory),
        queries_(carve<Packed>(max_queries * width_)),
        scores_(carve<float>(std::max(max_queries, kBlockQueries) * kChunk)),
        block_out_(carve<float>(std::max(max_queries, kBlockQueries) * width_)),
        block_seen_(carve<Seen>(std::max(max_queries, kBlockQueries))),
        out_(carve<float>(max_queries * width_)),
        seen_(carve<Seen>(max_queries)),
        packed_(carve<Packed>(kChunk * width_)),
        packed_v_(carve<float>(kChunk * width_)),
        keys_(carve<const T*>(kChunk)),
        values_(carve<const T*>(kChunk)),
        packed_keys_(carve<const Packed*>(kChunk)),
        packed_values_(carve<const float*>(kChunk)) {}

  static int64_t bytes(const AttentionArgs& args, int64_t max_queries) {
    return Attend(args, max_queries, nullptr).carved_;
  }

  // A head, filled up to whole vectors.
  static int64_t width(const AttentionArgs& args) {
    return round_up(args.head_dim, dots::Dot<T>::kStep);
  }

  // Nothing of the tile's context is seen yet.
  void begin(const Tile& tile) {
    tile_ = tile;
    each_query([&](int64_t i, int64_t row, int64_t head) {
      const T* q = static_cast<const T*>(args_.q) + row * args_.q_stride + head * args_.head_dim;
      copy(queries_ + i * width_, q);
    });
    std::fill_n(out_, queries() * width_, 0.0f);
    std::fill_n(seen_, queries(), Seen{});
  }

  // Sees a chunk, given by its number: one after another, without gaps.
  void chunk(int64_t index) {
    base_ = index * kChunk;
    const int64_t first = low(0), last = high(tile_.rows - 1);
    find(first, last);
    if (tile_.rows == 1 && width_ == args_.head_dim) return see_in_place(first, last);
    for (int64_t h = 0; h < tile_.kv_heads; ++h) {
      pack(h, first, last);
      for (int64_t i = 0; i < tile_.rows * group_; i += kBlockQueries)
        see_packed(h, i, std::min(kBlockQueries, tile_.rows * group_ - i));
    }
  }

  // What was seen, for `merge_chunk`.
  void save(Seen* seen, float* out) const {
    std::copy_n(seen_, queries(), seen);
    std::copy_n(out_, queries() * width_, out);
  }

  // Merges what another one saw of the same tile's next chunk.
  void merge_chunk(const Seen* seen, const float* out) {
    for (int64_t i = 0; i < queries(); ++i)
      merge(seen_[i], out_ + i * width_, seen[i], out + i * width_, width_);
  }

  // Writes the tile's outputs.
  void write() const {
    each_query([&](int64_t i, int64_t row, int64_t head) {
      T* out = static_cast<T*>(args_.out) + row * args_.out_stride + head * args_.head_dim;
      const float *from = out_ + i * width_, scale = 1.0f / seen_[i].total;
      int64_t d = 0;
      for (; d + kLanes <= args_.head_dim; d += kLanes) store(out + d, load(from + d) * scale);
      for (; d < args_.head_dim; ++d) out[d] = from_float<T>(from[d] * scale);
    });
  }

 private:
  using Packed = dots::Packed<T>;

  template <class U>
  U* carve(int64_t count) {
    U* data = reinterpret_cast<U*>(memory_ + carved_);
    carved_ += round_up(count * static_cast<int64_t>(sizeof(U)), 64);
    return data;
  }

  int64_t queries() const { return tile_.kv_heads * tile_.rows * group_; }

  // f(i, row, head) for all queries: by kv head, then by row, then by head.
  template <class F>
  void each_query(F&& f) const {
    int64_t i = 0;
    for (int64_t h = tile_.kv_head; h < tile_.kv_head + tile_.kv_heads; ++h)
      for (int64_t row = tile_.row; row < tile_.row + tile_.rows; ++row)
        for (int64_t g = 0; g < group_; ++g) f(i++, row, h * group_ + g);
  }

  // Of the chunk's positions, counted from its first one: the first that a row of the tile sees,
  // and the one behind its last.
  int64_t low(int64_t row) const {
    if (args_.window == 0) return 0;
    return std::clamp<int64_t>(tile_.position + row - args_.window + 1 - base_, 0, kChunk);
  }

  int64_t high(int64_t row) const {
    return std::clamp<int64_t>(tile_.position + row + 1 - base_, 0, kChunk);
  }

  template <class U>
  void copy(U* to, const T* from) const {
    int64_t d = 0;
    for (; d + kLanes <= args_.head_dim; d += kLanes) store(to + d, load(from + d));
    for (; d < args_.head_dim; ++d) to[d] = from_float<U>(to_float(from[d]));
    for (; d < width_; ++d) to[d] = U{};
  }

  // Where positions begin … end - 1 lie.
  void find(int64_t begin, int64_t end) {
    const int64_t row = args_.kv_heads * args_.head_dim, size = args_.block_size;
    const T* keys = static_cast<const T*>(args_.k_cache) + tile_.kv_head * args_.head_dim;
    const T* values = static_cast<const T*>(args_.v_cache) + tile_.kv_head * args_.head_dim;
    int64_t block = (base_ + begin) / size, offset = (base_ + begin) % size;
    for (int64_t i = begin; i < end; ++block, offset = 0) {
      const int64_t slot = tile_.blocks[block] * size + offset;
      const int64_t count = std::min(size - offset, end - i);
      for (int64_t k = 0; k < count; ++k, ++i) {
        keys_[i] = keys + (slot + k) * row;
        values_[i] = values + (slot + k) * row;
      }
    }
    fill_vectors(keys_, begin, end);
  }

  // Those beside positions begin … end - 1 in their vectors become the nearest one, so that only
  // the sequence's own slots are read.
  template <class K>
  static void fill_vectors(K* keys, int64_t begin, int64_t end) {
    for (int64_t i = begin / kLanes * kLanes; i < begin; ++i) keys[i] = keys[begin];
    for (int64_t i = end; i < round_up(end, kLanes); ++i) keys[i] = keys[end - 1];
  }

  // Copies of what `find` has found of a kv head, side by side.
  void pack(int64_t kv_head, int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      packed_keys_[i] = packed_ + i * width_;
      packed_values_[i] = packed_v_ + i * width_;
      copy(packed_ + i * width_, keys_[i] + kv_head * args_.head_dim);
      copy(packed_v_ + i * width_, values_[i] + kv_head * args_.head_dim);
    }
    fill_vectors(packed_keys_, begin, end);
  }

  // The one row of all the tile's heads, a few positions at a time, as they lie in memory.
  void see_in_place(int64_t begin, int64_t end) {
    const int64_t aligned = begin / kLanes * kLanes;
    for (int64_t k = aligned; k < end; k += kLanes)
      for (int64_t h = 0; h < tile_.kv_heads; ++h)
        dots::rows<T>(scores_ + h * group_ * kChunk + k, kChunk, queries_ + h * group_ * width_,
                      group_, keys_ + k, h * width_, width_);
    for (int64_t i = 0; i < queries(); ++i)
      block_seen_[i] = weigh(scores_ + i * kChunk, begin, end, args_.scale, args_.softcap);
    std::fill_n(block_out_, queries() * width_, 0.0f);
    for (int64_t k = begin; k < end; k += kLanes)
      for (int64_t h = 0; h < tile_.kv_heads; ++h)
        add_same(h * group_, group_, k, std::min(k + kLanes, end), values_, h * width_);
    merge_chunk(block_seen_, block_out_);
  }

  // Some of a kv head's queries, from `first` on, against the copied chunk.
  void see_packed(int64_t kv_head, int64_t first, int64_t count) {
    int64_t begins[kBlockQueries], ends[kBlockQueries];
    for (int64_t i = 0; i < count; ++i) {
      begins[i] = low((first + i) / group_);
      ends[i] = high((first + i) / group_);
    }
    const int64_t begin = begins[0] / kLanes * kLanes, end = ends[count - 1];
    if (begin >= end) return;
    const int64_t at = kv_head * tile_.rows * group_ + first;
    for (int64_t k = begin; k < end; k += kLanes)
      dots::rows<Packed>(scores_ + k, kChunk, queries_ + at * width_, count, packed_keys_ + k, 0,
                         width_);
    for (int64_t i = 0; i < count; ++i)
      block_seen_[i] = weigh(scores_ + i * kChunk, begins[i], ends[i], args_.scale, args_.softcap);
    std::fill_n(block_out_, count * width_, 0.0f);
    for (int64_t k = begin; k < end; k += kBlockKeys)
      add_seen(count, begins, ends, k, std::min(k + kBlockKeys, end));
    for (int64_t i = 0; i < count; ++i)
      merge(seen_[at + i], out_ + (at + i) * width_, block_seen_[i], block_out_ + i * width_,
            width_);
  }

  // Weighted values of positions begin … end - 1, for `count` queries that see them all.
  template <class V>
  void add_same(int64_t first, int64_t count, int64_t begin, int64_t end, const V* const* values,
                int64_t offset) const {
    dots::each_tile<4>(count, [&](int64_t i, auto size) {
      add_values<size()>(block_out_ + (first + i) * width_, width_, scores_ + (first + i) * kChunk,
                         kChunk, values, offset, begin, end);
    });
  }

  // The same for each query where it sees them: in tiles what all of them see, the rest one by one.
  void add_seen(int64_t count, const int64_t* begins, const int64_t* ends, int64_t begin,
                int64_t end) const {
    dots::each_tile<4>(count, [&](int64_t i, auto size) {
      const int64_t from = std::max(begin, begins[i + size() - 1]);
      const int64_t to = std::max(from, std::min(end, ends[i]));
      for (int64_t q = i; q < i + size(); ++q)
        add_same(q, 1, std::max(begin, begins[q]), std::min(from, std::min(end, ends[q])),
                 packed_values_, 0);
      add_same(i, size(), from, to, packed_values_, 0);
      for (int64_t q = i; q < i + size(); ++q)
        add_same(q, 1, std::max(to, begins[q]), std::min(end, ends[q]), packed_values_, 0);
    });
  }

  const AttentionArgs& args_;
  const int64_t group_;
  const int64_t width_;
  char* const memory_;
  int64_t carved_ = 0;
  Tile tile_{};
  int64_t base_ = 0;  // the chunk's first position

  Packed* const queries_;
  float* const scores_;     // [queries][kChunk]; then their weights
  float* const block_out_;  // [queries][width]: of one chunk
  Seen* const block_seen_;
  float* const out_;  // [queries][width]: of all chunks so far
  Seen* const seen_;
  Packed* const packed_;
  float* const packed_v_;
  const T** const keys_;
  const T** const values_;
  const Packed** const packed_keys_;
  const float** const packed_values_;
};

}  // namespace inferd
