// Attention of a tile of queries, one chunk of its sequence's positions after another.
//
// Chunks begin at multiples of kChunk, wherever a prompt was cut, and what they give is merged in
// their order: both are the same for a row alone and for one among others.
#pragma once

#include <algorithm>

#include "attention/cpu.h"
#include "attention/softmax.h"
#include "attention/tiles.h"

namespace inferd {

constexpr int64_t kChunk = 256;        // positions
constexpr int64_t kBlockQueries = 16;  // whose scores against a chunk are held at a time
constexpr int64_t kValueKeys = 64;     // whose values stay in the first cache meanwhile
constexpr int64_t kPackedQueries = 24;  // from here on, keys are used often enough to copy them

inline int64_t round_up(int64_t n, int64_t step) { return (n + step - 1) / step * step; }

// Rows of one sequence with the heads of one kv head: query i is row i / group, head i % group.
struct Tile {
  const int32_t* blocks;
  int64_t kv_head;
  int64_t row;       // the first one, in q and out
  int64_t position;  // of that row
  int64_t rows;
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
        scores_(carve<float>(kBlockQueries * kChunk)),
        block_out_(carve<float>(kBlockQueries * width_)),
        out_(carve<float>(max_queries * width_)),
        seen_(carve<Seen>(max_queries)),
        packed_keys_(carve<Packed>(kChunk * width_)),
        packed_values_(carve<float>(kChunk * width_)),
        keys_(carve<const T*>(kChunk)),
        values_(carve<const T*>(kChunk)),
        keys_packed_(carve<const Packed*>(kChunk)),
        values_packed_(carve<const float*>(kChunk)) {}

  static int64_t bytes(const AttentionArgs& args, int64_t max_queries) {
    return Attend(args, max_queries, nullptr).carved_;
  }

  // A head, filled up to whole vectors.
  static int64_t width(const AttentionArgs& args) {
    return round_up(args.head_dim, tiles::Dot<T>::kStep);
  }

  const Seen* seen() const { return seen_; }
  const float* out() const { return out_; }

  // Nothing of the tile's context is seen yet.
  void begin(const Tile& tile) {
    tile_ = tile;
    for (int64_t i = 0; i < queries(); ++i) {
      const T* q = static_cast<const T*>(args_.q) + (tile.row + i / group_) * args_.q_stride +
                   (tile.kv_head * group_ + i % group_) * args_.head_dim;
      copy(queries_ + i * width_, q);
    }
    std::fill_n(out_, queries() * width_, 0.0f);
    std::fill_n(seen_, queries(), Seen{});
  }

  // Sees a chunk, given by its number: one after another, without gaps.
  void chunk(int64_t index) {
    base_ = index * kChunk;
    const int64_t first = low(0), last = high(queries() - 1);
    find(first, last);
    if (queries() >= kPackedQueries || width_ != args_.head_dim) {
      pack(first, last);
      blocks(keys_packed_, values_packed_);
    } else {
      blocks(keys_, values_);
    }
  }

  // Writes the tile's outputs.
  void write() const {
    for (int64_t i = 0; i < queries(); ++i)
      write_query(args_, tile_, i, out_ + i * width_, seen_[i].total);
  }

  static void write_query(const AttentionArgs& args, const Tile& tile, int64_t query,
                          const float* from, float total) {
    const int64_t group = args.heads / args.kv_heads;
    T* out = static_cast<T*>(args.out) + (tile.row + query / group) * args.out_stride +
             (tile.kv_head * group + query % group) * args.head_dim;
    const float scale = 1.0f / total;
    int64_t d = 0;
    for (; d + kLanes <= args.head_dim; d += kLanes) store(out + d, load(from + d) * scale);
    for (; d < args.head_dim; ++d) out[d] = from_float<T>(from[d] * scale);
  }

 private:
  using Packed = tiles::Packed<T>;

  template <class U>
  U* carve(int64_t count) {
    U* data = reinterpret_cast<U*>(memory_ + carved_);
    carved_ += round_up(count * static_cast<int64_t>(sizeof(U)), 64);
    return data;
  }

  int64_t queries() const { return tile_.rows * group_; }

  // Of the chunk's positions, counted from its first one: the first that a query sees, and the one
  // behind its last.
  int64_t low(int64_t query) const {
    if (args_.window == 0) return 0;
    const int64_t from = tile_.position + query / group_ - args_.window + 1;
    return std::clamp<int64_t>(from - base_, 0, kChunk);
  }

  int64_t high(int64_t query) const {
    return std::clamp<int64_t>(tile_.position + query / group_ + 1 - base_, 0, kChunk);
  }

  template <class U>
  void copy(U* to, const T* from) const {
    int64_t d = 0;
    for (; d + kLanes <= args_.head_dim; d += kLanes) store(to + d, load(from + d));
    for (; d < args_.head_dim; ++d) to[d] = from_float<U>(to_float(from[d]));
    for (; d < width_; ++d) to[d] = U{};
  }

  // Where positions begin … end - 1 lie; those beside them in their vectors lie where the nearest
  // does, so that only the sequence's own slots are read.
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
    for (int64_t i = begin / kLanes * kLanes; i < begin; ++i) keys_[i] = keys_[begin];
    for (int64_t i = end; i < round_up(end, kLanes); ++i) keys_[i] = keys_[end - 1];
  }

  // Copies of what `find` has found, side by side.
  void pack(int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      copy(packed_keys_ + i * width_, keys_[i]);
      copy(packed_values_ + i * width_, values_[i]);
      keys_packed_[i] = packed_keys_ + i * width_;
      values_packed_[i] = packed_values_ + i * width_;
    }
    for (int64_t i = begin / kLanes * kLanes; i < begin; ++i) keys_packed_[i] = keys_packed_[begin];
    for (int64_t i = end; i < round_up(end, kLanes); ++i) keys_packed_[i] = keys_packed_[end - 1];
  }

  template <class K, class V>
  void blocks(const K* const* keys, const V* const* values) {
    for (int64_t i = 0; i < queries(); i += kBlockQueries)
      block(i, std::min(kBlockQueries, queries() - i), keys, values);
  }

  template <class K, class V>
  void block(int64_t first, int64_t count, const K* const* keys, const V* const* values) {
    int64_t begins[kBlockQueries], ends[kBlockQueries];
    for (int64_t i = 0; i < count; ++i) {
      begins[i] = low(first + i);
      ends[i] = high(first + i);
    }
    const int64_t begin = begins[0] / kLanes * kLanes, end = ends[count - 1];
    if (begin >= end) return;
    for (int64_t k = begin; k < end; k += kLanes)
      score(queries_ + first * width_, count, keys + k, scores_ + k);
    Seen seen[kBlockQueries];
    for (int64_t i = 0; i < count; ++i)
      seen[i] = weigh(scores_ + i * kChunk, begins[i], ends[i], args_.scale, args_.softcap);
    std::fill_n(block_out_, count * width_, 0.0f);
    for (int64_t k = begin; k < end; k += kValueKeys)
      add_values(count, begins, ends, k, std::min(k + kValueKeys, end), values);
    for (int64_t i = 0; i < count; ++i)
      merge(seen_[first + i], out_ + (first + i) * width_, seen[i], block_out_ + i * width_,
            width_);
  }

  // Scores of `count` queries with the next kLanes keys.
  template <class K>
  void score(const Packed* queries, int64_t count, const K* const* keys, float* scores) const {
    int64_t i = 0;
    const auto tiles_of = [&](auto size) {
      for (; i + size() <= count; i += size())
        for (int64_t k = 0; k < kLanes; k += kLanes / size())
          tiles::scores<size()>(scores + i * kChunk + k, kChunk, queries + i * width_, keys + k,
                                width_);
    };
    if constexpr (tiles::kQuarters >= 4) tiles_of(std::integral_constant<int, 4>());
    if constexpr (tiles::kQuarters >= 2) tiles_of(std::integral_constant<int, 2>());
    tiles_of(std::integral_constant<int, 1>());
  }

  // Weighted values of positions begin … end - 1, for each query those that it sees.
  template <class V>
  void add_values(int64_t count, const int64_t* begins, const int64_t* ends, int64_t begin,
                  int64_t end, const V* const* values) const {
    int64_t i = 0;
    const auto tiles_of = [&](auto size) {
      for (; i + size() <= count; i += size()) {
        const int64_t from = std::max(begin, begins[i + size() - 1]), to = std::min(end, ends[i]);
        if (from < to) {
          for (int q = 0; q < size(); ++q) add_query(i + q, std::max(begin, begins[i + q]), from, values);
          tiles::add_values<size()>(block_out_ + i * width_, width_, scores_ + i * kChunk, kChunk,
                                    values, from, to);
          for (int q = 0; q < size(); ++q) add_query(i + q, to, std::min(end, ends[i + q]), values);
        } else {
          for (int q = 0; q < size(); ++q)
            add_query(i + q, std::max(begin, begins[i + q]), std::min(end, ends[i + q]), values);
        }
      }
    };
    tiles_of(std::integral_constant<int, 4>());
    tiles_of(std::integral_constant<int, 2>());
    tiles_of(std::integral_constant<int, 1>());
  }

  template <class V>
  void add_query(int64_t i, int64_t begin, int64_t end, const V* const* values) const {
    tiles::add_values<1>(block_out_ + i * width_, width_, scores_ + i * kChunk, kChunk, values,
                         begin, end);
  }

  const AttentionArgs& args_;
  const int64_t group_;
  const int64_t width_;
  char* const memory_;
  int64_t carved_ = 0;
  Tile tile_{};
  int64_t base_ = 0;  // the chunk's first position

  Packed* const queries_;
  float* const scores_;     // [kBlockQueries][kChunk]; then their weights
  float* const block_out_;  // [kBlockQueries][width]: of one chunk
  float* const out_;        // [queries][width]: of all chunks so far
  Seen* const seen_;
  Packed* const packed_keys_;
  float* const packed_values_;
  const T** const keys_;
  const T** const values_;
  const Packed** const keys_packed_;
  const float** const values_packed_;
};

}  // namespace inferd
