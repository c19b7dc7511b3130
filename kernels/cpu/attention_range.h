// One range of keys of an attention: the vector code behind attention_common.h, and what it works on.
#ifndef YOIO_KERNELS_CPU_ATTENTION_RANGE_H_
#define YOIO_KERNELS_CPU_ATTENTION_RANGE_H_

#include <algorithm>
#include <cstdint>

#include "kernels/cpu/attention_common.h"

namespace yoio::kernels::cpu {

// Queries computed side by side: the rows of a tile times the heads of a group. 48 fill three vectors of 16
// lanes.
inline constexpr int kTileQueries = 48;
inline constexpr int kMaxQueries = std::max(kTileQueries, kMaxGroup);

// Keys whose partial results are merged as one; the unit of work when rows are few.
inline constexpr int32_t kRangeTokens = 512;

// Where a softmax starts, and what a score that a row must not see is replaced by: far below it, so that its
// exponential is exactly zero even before the first real score.
inline constexpr float kNoMaximum = -1e37f;
inline constexpr float kHidden = -3e38f;

// Key/value heads that one task may compute together, so that it reads whole tokens of the cache.
inline constexpr int kMaxHeadsTogether = 8;

inline constexpr int kLine = 16;  // floats in a cache line; no vector is wider

inline int64_t RoundUp(int64_t value, int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

// Floats that a query, key or value takes here: whole lines, zeros behind head_dim.
inline int Width(const AttentionProblem& problem) {
  return static_cast<int>(RoundUp(problem.head_dim, kLine));
}

// An unfinished softmax of up to kMaxQueries queries: the result is values / sum.
struct Partial {
  float* maximum;  // [kMaxQueries]
  float* sum;      // [kMaxQueries]
  float* values;   // [queries, width]

  static int64_t Size(int queries, int width) { return 2 * kMaxQueries + int64_t{queries} * width; }
  static Partial At(float* memory) { return {memory, memory + kMaxQueries, memory + 2 * kMaxQueries}; }
};

// Rows that share their keys, and some key/value heads of them.
struct Run {
  int row;
  int num_rows;
  int kv_head;
  int num_kv_heads;              // at most kMaxHeadsTogether
  KeyRange keys;                 // what any of them sees
  KeyRange ranges[kMaxQueries];  // what each sees
};

// The memory of one thread for one head.
struct Workspace {
  float* queries;  // [width, lanes for the queries]: scaled, one query a lane
  float* scores;   // [kBlockTokens, lanes for the queries]
  float* packed;   // [2, kBlockTokens, width]: keys and values of a block, when they need padding
  float* nothing;  // [width]: zeros, in place of keys that are not there
  Partial range;   // of the range at hand
  Partial total;   // of those before it

  static int64_t Size(int queries, int width) {
    return (width + kBlockTokens) * RoundUp(queries, kLine) + (2 * kBlockTokens + 1) * width +
           2 * Partial::Size(queries, width);
  }
  static Workspace At(float* memory, int queries, int width) {
    Workspace space;
    space.queries = memory;
    space.scores = space.queries + width * RoundUp(queries, kLine);
    space.packed = space.scores + kBlockTokens * RoundUp(queries, kLine);
    space.nothing = space.packed + 2 * kBlockTokens * width;
    space.range = Partial::At(space.nothing + width);
    space.total = Partial::At(space.range.maximum + Partial::Size(queries, width));
    return space;
  }
};

// The keys of the run that lie in [begin, end), a range, for each head h of it into spaces[h].range.
void AttendRange(const AttentionProblem& problem, const Run& run, int32_t begin, int32_t end,
                 const Workspace* spaces);

// total = total and part together, for queries [0, num_queries).
void Merge(const Partial& part, int num_queries, int width, const Partial& total);

// Writes the finished rows of a run for one key/value head.
void Finish(const AttentionProblem& problem, const Run& run, int kv_head, const Partial& total);

}  // namespace yoio::kernels::cpu

#endif  // YOIO_KERNELS_CPU_ATTENTION_RANGE_H_
