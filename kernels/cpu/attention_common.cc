#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/attention_common.cc"
#include "kernels/cpu/attention_common.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "hwy/foreach_target.h"  // compiles this file once for each instruction set
#include "hwy/highway.h"
// Must come after foreach_target.h.
#include "hwy/contrib/math/math-inl.h"
#include "kernels/cpu/parallel.h"

// Once for all instruction sets: what they are handed.
#ifndef YOIO_KERNELS_CPU_ATTENTION_COMMON_CC_
#define YOIO_KERNELS_CPU_ATTENTION_COMMON_CC_

namespace yoio::kernels::cpu {
namespace {

// Queries computed side by side: the rows of a tile times the heads of a group. 48 fill three vectors of 16
// lanes.
constexpr int kTileQueries = 48;
constexpr int kMaxQueries = std::max(kTileQueries, kMaxGroup);

// Keys whose partial results are merged as one; the unit of work when rows are few.
constexpr int32_t kRangeTokens = 512;

// Where a softmax starts, and what a score that a row must not see is replaced by: far below it, so that its
// exponential is exactly zero even before the first real score.
constexpr float kNoMaximum = -1e37f;
constexpr float kHidden = -3e38f;

constexpr int kLine = 16;  // floats in a cache line; no vector is wider

int64_t RoundUp(int64_t value, int64_t multiple) { return (value + multiple - 1) / multiple * multiple; }

// Floats that a query, key or value takes here: whole lines, zeros behind head_dim.
int Width(const AttentionProblem& problem) { return static_cast<int>(RoundUp(problem.head_dim, kLine)); }

// An unfinished softmax of up to kMaxQueries queries: the result is values / sum.
struct Partial {
  float* maximum;  // [kMaxQueries]
  float* sum;      // [kMaxQueries]
  float* values;   // [queries, width]

  static int64_t Size(int queries, int width) { return 2 * kMaxQueries + int64_t{queries} * width; }
  static Partial At(float* memory) { return {memory, memory + kMaxQueries, memory + 2 * kMaxQueries}; }
};

// Rows that share their keys, and one key/value head of them.
struct Run {
  int row;
  int num_rows;
  int kv_head;
  KeyRange keys;                 // what any of them sees
  KeyRange ranges[kMaxQueries];  // what each sees
};

// The memory of one thread.
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

}  // namespace
}  // namespace yoio::kernels::cpu
#endif  // YOIO_KERNELS_CPU_ATTENTION_COMMON_CC_

HWY_BEFORE_NAMESPACE();
namespace yoio::kernels::cpu::HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

using Floats = hn::CappedTag<float, kLine>;
using Vector = hn::Vec<Floats>;
constexpr int kLanes = hn::MaxLanes(Floats());

// Register tiles: keys x vectors of queries for the scores, queries x vectors of a value for the values.
// AVX-512 (better targets have lower numbers) and ARM have 32 registers, others 16.
constexpr bool kManyRegisters = HWY_ARCH_ARM_A64 || (HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX3);
constexpr int kQueryVectors = 3;
constexpr int kKeys = kManyRegisters ? 8 : 4;
constexpr int kQueries = 6;
constexpr int kValueVectors = kManyRegisters ? 4 : 2;

// A hint for the second-level cache: a block of keys and values is larger than the first.
HWY_INLINE void PrefetchFar(const float* data) { __builtin_prefetch(data, 0, 2); }

// scores[j, query] = key j . query, for kKeys keys and kVectors vectors of queries. Brings in the lines of
// the keys one block further on meanwhile.
template <int kVectors>
void ScoreKeys(const float* HWY_RESTRICT queries, int64_t stride, int width, const float* const* keys,
               const float* const* next, float* HWY_RESTRICT scores) {
  const Floats d;
  Vector sums[kKeys][kVectors];
  for (int j = 0; j < kKeys; ++j) {
    for (int v = 0; v < kVectors; ++v) sums[j][v] = hn::Zero(d);
  }
  for (int line = 0; line < width; line += kLine) {
    for (int j = 0; j < kKeys; ++j) PrefetchFar(next[j] + line);
    for (int i = line; i < line + kLine; ++i) {
      Vector query[kVectors];
      for (int v = 0; v < kVectors; ++v) query[v] = hn::Load(d, queries + i * stride + v * kLanes);
      for (int j = 0; j < kKeys; ++j) {
        const Vector key = hn::Set(d, keys[j][i]);
        for (int v = 0; v < kVectors; ++v) sums[j][v] = hn::MulAdd(key, query[v], sums[j][v]);
      }
    }
  }
  for (int j = 0; j < kKeys; ++j) {
    for (int v = 0; v < kVectors; ++v) hn::Store(sums[j][v], d, scores + j * stride + v * kLanes);
  }
}

// All queries against keys [begin, end) of a block, multiples of kKeys.
void ScoreBlock(const Workspace& space, int64_t stride, int width, int begin, int end, const KeyRows& rows,
                const KeyRows& next) {
  for (int64_t query = 0; query < stride; query += kQueryVectors * kLanes) {
    for (int j = begin; j < end; j += kKeys) {
      const float* queries = space.queries + query;
      float* scores = space.scores + j * stride + query;
      switch (std::min<int64_t>(kQueryVectors, (stride - query) / kLanes)) {
        case 1:
          ScoreKeys<1>(queries, stride, width, rows.k + j, next.k + j, scores);
          break;
        case 2:
          ScoreKeys<2>(queries, stride, width, rows.k + j, next.k + j, scores);
          break;
        default:
          ScoreKeys<kQueryVectors>(queries, stride, width, rows.k + j, next.k + j, scores);
      }
    }
  }
}

// Replaces the scores of keys outside the queries' ranges. `position` is that of the block's first key.
void HideKeys(const int32_t* range_first, const int32_t* range_last, int64_t stride, int begin, int end,
              int32_t position, float* scores) {
  const Floats d;
  const hn::RebindToSigned<Floats> di;
  const Vector hidden = hn::Set(d, kHidden);
  for (int64_t query = 0; query < stride; query += kLanes) {
    const auto first = hn::Load(di, range_first + query);
    const auto last = hn::Load(di, range_last + query);
    for (int j = begin; j < end; ++j) {
      const auto p = hn::Set(di, position + j);
      const auto outside = hn::Or(hn::Lt(p, first), hn::Gt(p, last));
      float* score = scores + j * stride + query;
      hn::Store(hn::IfThenElse(hn::RebindMask(d, outside), hidden, hn::Load(d, score)), d, score);
    }
  }
}

// e^(score - maximum). NaN stays NaN, which the library's exponential would turn to zero.
HWY_INLINE Vector Weight(Vector score, Vector maximum) {
  const Vector x = hn::Sub(score, maximum);
  return hn::IfThenElse(hn::IsNaN(x), x, hn::Exp(Floats(), x));
}

// Turns the scores of a block into weights relative to the new maximum, adds them to the sums, and yields the
// factor by which each query's earlier values shrink.
void SoftmaxBlock(int64_t stride, int begin, int end, float* HWY_RESTRICT scores, const Partial& partial,
                  float* HWY_RESTRICT factors) {
  const Floats d;
  for (int64_t query = 0; query < stride; query += kLanes) {
    const Vector before = hn::Load(d, partial.maximum + query);
    Vector maximum = before;
    for (int j = begin; j < end; ++j) maximum = hn::Max(maximum, hn::Load(d, scores + j * stride + query));
    Vector sum = hn::Zero(d);
    for (int j = begin; j < end; ++j) {
      float* score = scores + j * stride + query;
      const Vector weight = Weight(hn::Load(d, score), maximum);
      hn::Store(weight, d, score);
      sum = hn::Add(sum, weight);
    }
    const Vector factor = Weight(before, maximum);
    hn::Store(factor, d, factors + query);
    hn::Store(maximum, d, partial.maximum + query);
    hn::Store(hn::MulAdd(hn::Load(d, partial.sum + query), factor, sum), d, partial.sum + query);
  }
}

// values[r] = values[r] * factors[r] + sum over keys of weights[key, r] * v[key], for kRows queries and
// kVectors vectors of a value, from `column` on.
template <int kRows, int kVectors>
void AddValues(const float* HWY_RESTRICT weights, int64_t stride, const float* factors, int begin, int end,
               const float* const* v, const float* const* next, int column, int width,
               float* HWY_RESTRICT values) {
  const Floats d;
  Vector sums[kRows][kVectors];
  for (int r = 0; r < kRows; ++r) {
    const Vector factor = hn::Set(d, factors[r]);
    for (int c = 0; c < kVectors; ++c) {
      sums[r][c] = hn::Mul(factor, hn::Load(d, values + r * width + column + c * kLanes));
    }
  }
  for (int j = begin; j < end; ++j) {
    Vector value[kVectors];
    for (int c = 0; c < kVectors; ++c) {
      value[c] = hn::LoadU(d, v[j] + column + c * kLanes);
      if (c * kLanes % kLine == 0) PrefetchFar(next[j] + column + c * kLanes);
    }
    for (int r = 0; r < kRows; ++r) {
      const Vector weight = hn::Set(d, weights[j * stride + r]);
      for (int c = 0; c < kVectors; ++c) sums[r][c] = hn::MulAdd(weight, value[c], sums[r][c]);
    }
  }
  for (int r = 0; r < kRows; ++r) {
    for (int c = 0; c < kVectors; ++c) hn::Store(sums[r][c], d, values + r * width + column + c * kLanes);
  }
}

// AddValues for a number of queries known at run time, in [1, kRows], over the whole head.
template <int kRows>
void AddValuesOf(int num_queries, const float* weights, int64_t stride, const float* factors, int begin,
                 int end, const KeyRows& rows, const KeyRows& next, int width, float* values) {
  if constexpr (kRows > 1) {
    if (num_queries < kRows) {
      return AddValuesOf<kRows - 1>(num_queries, weights, stride, factors, begin, end, rows, next, width,
                                    values);
    }
  }
  int column = 0;
  for (; column + kValueVectors * kLanes <= width; column += kValueVectors * kLanes) {
    AddValues<kRows, kValueVectors>(weights, stride, factors, begin, end, rows.v, next.v, column, width,
                                    values);
  }
  for (; column < width; column += kLanes) {
    AddValues<kRows, 1>(weights, stride, factors, begin, end, rows.v, next.v, column, width, values);
  }
}

// One block of keys, at the positions from `position` on, for all queries of a run.
void AttendBlock(const Workspace& space, int num_queries, int64_t stride, int width,
                 const int32_t* range_first, const int32_t* range_last, bool all_seen, int32_t position,
                 int begin, int end, const KeyRows& rows, const KeyRows& next) {
  HWY_ALIGN float factors[kMaxQueries];
  ScoreBlock(space, stride, width, begin, end, rows, next);
  if (!all_seen) HideKeys(range_first, range_last, stride, begin, end, position, space.scores);
  SoftmaxBlock(stride, begin, end, space.scores, space.range, factors);
  for (int query = 0; query < num_queries; query += kQueries) {
    AddValuesOf<kQueries>(std::min(kQueries, num_queries - query), space.scores + query, stride,
                          factors + query, begin, end, rows, next, width,
                          space.range.values + int64_t{query} * width);
  }
}

// Queries of the run, scaled, one a lane.
void LoadQueries(const AttentionProblem& problem, const Run& run, int64_t stride, float* out) {
  const int group = problem.heads / problem.kv_heads;
  const float scale = 1.0f / std::sqrt(static_cast<float>(problem.head_dim));
  std::fill(out, out + Width(problem) * stride, 0.0f);
  for (int row = 0; row < run.num_rows; ++row) {
    const float* q = problem.q + (run.row + row) * problem.q_stride + run.kv_head * group * problem.head_dim;
    for (int g = 0; g < group; ++g, q += problem.head_dim) {
      float* lane = out + row * group + g;
      for (int i = 0; i < problem.head_dim; ++i) lane[i * stride] = q[i] * scale;
    }
  }
}

// Points `rows` at the keys of the block that starts at `position`, those that no row sees at zeros.
void LocateBlock(const AttentionProblem& problem, const Run& run, int32_t position, const float* nothing,
                 KeyRows& rows) {
  const int32_t begin = std::max(position, run.keys.begin);
  const int32_t end = std::min(position + kBlockTokens, run.keys.end);
  std::fill(rows.k, rows.k + (begin - position), nothing);
  std::fill(rows.v, rows.v + (begin - position), nothing);
  std::fill(rows.k + (end - position), rows.k + kBlockTokens, nothing);
  std::fill(rows.v + (end - position), rows.v + kBlockTokens, nothing);
  problem.locate(run.row, run.kv_head, begin, end, rows);
}

// Copies keys [begin, end) of a block to space.packed, zeros behind head_dim, and returns where they are now.
KeyRows Pack(const AttentionProblem& problem, const KeyRows& rows, int begin, int end,
             const Workspace& space) {
  const int width = Width(problem);
  KeyRows packed;
  for (int j = begin; j < end; ++j) {
    float* k = space.packed + j * width;
    float* v = k + kBlockTokens * width;
    std::fill(std::copy_n(rows.k[j], problem.head_dim, k), k + width, 0.0f);
    std::fill(std::copy_n(rows.v[j], problem.head_dim, v), v + width, 0.0f);
    packed.k[j] = k;
    packed.v[j] = v;
  }
  return packed;
}

// The keys of the run that lie in [begin, end), a range, into space.range.
void AttendRange(const AttentionProblem& problem, const Run& run, int32_t begin, int32_t end,
                 const Workspace& space) {
  const int width = Width(problem);
  const int group = problem.heads / problem.kv_heads;
  const int num_queries = run.num_rows * group;
  const int64_t stride = RoundUp(num_queries, kLanes);
  HWY_ALIGN int32_t range_first[kMaxQueries] = {};
  HWY_ALIGN int32_t range_last[kMaxQueries] = {};  // 0 hides nothing that counts
  KeyRange seen_by_all = run.ranges[0];
  for (int row = 0; row < run.num_rows; ++row) {
    std::fill_n(range_first + row * group, group, run.ranges[row].begin);
    std::fill_n(range_last + row * group, group, run.ranges[row].end - 1);
    seen_by_all.begin = std::max(seen_by_all.begin, run.ranges[row].begin);
    seen_by_all.end = std::min(seen_by_all.end, run.ranges[row].end);
  }
  LoadQueries(problem, run, stride, space.queries);
  std::fill_n(space.range.maximum, kMaxQueries, kNoMaximum);
  std::fill_n(space.range.sum, kMaxQueries, 0.0f);
  std::fill_n(space.range.values, int64_t{num_queries} * width, 0.0f);
  std::fill_n(space.nothing, width, 0.0f);

  begin = std::max(begin, run.keys.begin);
  end = std::min(end, run.keys.end);
  KeyRows rows[2];
  int32_t position = begin / kBlockTokens * kBlockTokens;
  LocateBlock(problem, run, position, space.nothing, rows[0]);
  for (int block = 0; position < end; ++block, position += kBlockTokens) {
    const KeyRows& current = rows[block % 2];
    const bool more = position + kBlockTokens < run.keys.end;
    if (more) LocateBlock(problem, run, position + kBlockTokens, space.nothing, rows[(block + 1) % 2]);
    const KeyRows& next = more ? rows[(block + 1) % 2] : current;

    // Keys that nobody sees are left out in whole groups.
    const int first = std::max(0, begin - position) / kKeys * kKeys;
    const int last = static_cast<int>(RoundUp(std::min(kBlockTokens, end - position), kKeys));
    const bool all_seen = position + first >= seen_by_all.begin && position + last <= seen_by_all.end;
    const auto attend = [&](const KeyRows& rows, const KeyRows& next) {
      AttendBlock(space, num_queries, stride, width, range_first, range_last, all_seen, position, first, last,
                  rows, next);
    };
    if (width == problem.head_dim) {
      attend(current, next);
    } else {
      const KeyRows packed = Pack(problem, current, first, last, space);
      attend(packed, packed);
    }
  }
}

// total = total and part together, for queries [0, num_queries).
void Merge(const Partial& part, int num_queries, int width, const Partial& total) {
  const Floats d;
  HWY_ALIGN float total_factors[kMaxQueries];
  HWY_ALIGN float part_factors[kMaxQueries];
  for (int query = 0; query < num_queries; query += kLanes) {
    const Vector total_maximum = hn::Load(d, total.maximum + query);
    const Vector part_maximum = hn::Load(d, part.maximum + query);
    const Vector maximum = hn::Max(total_maximum, part_maximum);
    const Vector total_factor = Weight(total_maximum, maximum);
    const Vector part_factor = Weight(part_maximum, maximum);
    const Vector part_sum = hn::Mul(hn::Load(d, part.sum + query), part_factor);
    hn::Store(hn::MulAdd(hn::Load(d, total.sum + query), total_factor, part_sum), d, total.sum + query);
    hn::Store(maximum, d, total.maximum + query);
    hn::Store(total_factor, d, total_factors + query);
    hn::Store(part_factor, d, part_factors + query);
  }
  for (int query = 0; query < num_queries; ++query) {
    const Vector total_factor = hn::Set(d, total_factors[query]);
    const Vector part_factor = hn::Set(d, part_factors[query]);
    const float* from = part.values + int64_t{query} * width;
    float* to = total.values + int64_t{query} * width;
    for (int i = 0; i < width; i += kLanes) {
      const Vector value = hn::Mul(hn::Load(d, from + i), part_factor);
      hn::Store(hn::MulAdd(hn::Load(d, to + i), total_factor, value), d, to + i);
    }
  }
}

// Writes the finished rows of a run.
void Finish(const AttentionProblem& problem, const Run& run, const Partial& total) {
  const Floats d;
  const int group = problem.heads / problem.kv_heads;
  const int width = Width(problem);
  for (int query = 0; query < run.num_rows * group; ++query) {
    const int64_t head =
        int64_t{run.row + query / group} * problem.heads + run.kv_head * group + query % group;
    const Vector sum = hn::Set(d, total.sum[query]);
    float* values = total.values + query * width;
    for (int i = 0; i < width; i += kLanes) hn::Store(hn::Div(hn::Load(d, values + i), sum), d, values + i);
    std::copy_n(values, problem.head_dim, problem.out + head * problem.head_dim);
  }
}

}  // namespace
}  // namespace yoio::kernels::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace yoio::kernels::cpu {
namespace {

HWY_EXPORT(AttendRange);
HWY_EXPORT(Merge);
HWY_EXPORT(Finish);

// With fewer runs than this for each thread, a run's ranges are computed side by side.
constexpr int kRunsPerThread = 4;

// Ranges in flight for each thread: bounds the memory of partial results.
constexpr int kRangesPerThread = 8;

// All rows of a problem, cut into runs.
struct Shape {
  int num_runs = 0;
  int max_rows = 0;    // of a run
  int max_ranges = 0;  // of a run
};

int FirstRange(const Run& run) { return run.keys.begin / kRangeTokens; }
int NumRanges(const Run& run) { return (run.keys.end + kRangeTokens - 1) / kRangeTokens - FirstRange(run); }

// The run that begins at `row`.
void MakeRun(const AttentionProblem& problem, int row, Run& run) {
  const int limit = std::max(1, kTileQueries / (problem.heads / problem.kv_heads));
  run.row = row;
  run.num_rows = problem.share_keys(row, std::min(limit, problem.num_rows - row), run.ranges);
  run.keys = run.ranges[0];
  for (int i = 1; i < run.num_rows; ++i) {
    run.keys.begin = std::min(run.keys.begin, run.ranges[i].begin);
    run.keys.end = std::max(run.keys.end, run.ranges[i].end);
  }
}

// Walks to the run: costs a few nanoseconds a row, and spares a list.
void FindRun(const AttentionProblem& problem, int64_t index, Run& run) {
  MakeRun(problem, 0, run);
  for (int64_t i = 0; i < index; ++i) MakeRun(problem, run.row + run.num_rows, run);
}

Shape Survey(const AttentionProblem& problem) {
  Shape shape;
  Run run;
  for (int row = 0; row < problem.num_rows; row += run.num_rows) {
    MakeRun(problem, row, run);
    ++shape.num_runs;
    shape.max_rows = std::max(shape.max_rows, run.num_rows);
    shape.max_ranges = std::max(shape.max_ranges, NumRanges(run));
  }
  return shape;
}

void Clear(const Partial& partial, int64_t num_values) {
  std::fill_n(partial.maximum, kMaxQueries, kNoMaximum);
  std::fill_n(partial.sum, kMaxQueries, 0.0f);
  std::fill_n(partial.values, num_values, 0.0f);
}

// Range `index` of a run, counted from its first.
void AttendRangeOf(const AttentionProblem& problem, const Run& run, int index, const Workspace& space) {
  const int32_t begin = (FirstRange(run) + index) * kRangeTokens;
  HWY_DYNAMIC_DISPATCH(AttendRange)(problem, run, begin, begin + kRangeTokens, space);
}

// Many runs: each is one task.
void AttendRuns(const AttentionProblem& problem, const Shape& shape, CpuStream& stream) {
  const int group = problem.heads / problem.kv_heads;
  const int queries = shape.max_rows * group;
  const int width = Width(problem);
  ForTasks(stream, int64_t{shape.num_runs} * problem.kv_heads, [&](int thread, int64_t task) {
    Run run;
    FindRun(problem, task / problem.kv_heads, run);
    run.kv_head = task % problem.kv_heads;
    float* memory = stream.Scratch(thread, Workspace::Size(queries, width));
    const Workspace space = Workspace::At(memory, queries, width);
    const int num_queries = run.num_rows * group;
    Clear(space.total, int64_t{num_queries} * width);
    for (int range = 0; range < NumRanges(run); ++range) {
      AttendRangeOf(problem, run, range, space);
      HWY_DYNAMIC_DISPATCH(Merge)(space.range, num_queries, width, space.total);
    }
    HWY_DYNAMIC_DISPATCH(Finish)(problem, run, space.total);
  });
}

// Few runs with many keys: a task is one range of one run. Ranges are computed in waves and merged in order
// after each.
void AttendRanges(const AttentionProblem& problem, const Shape& shape, CpuStream& stream) {
  const int group = problem.heads / problem.kv_heads;
  const int queries = shape.max_rows * group;
  const int width = Width(problem);
  const int64_t items = int64_t{shape.num_runs} * problem.kv_heads;
  const int wave = (kRangesPerThread * stream.pool().num_threads() + items - 1) / items;
  const int64_t space_size = Workspace::Size(queries, width);
  const int64_t partial_size = Partial::Size(queries, width);

  // Behind the first thread's workspace: the totals of all items, then the partial results of a wave.
  float* totals = stream.Scratch(0, space_size + items * (1 + wave) * partial_size) + space_size;
  float* partials = totals + items * partial_size;
  const auto make_run = [&](int64_t item, Run& run) {
    FindRun(problem, item / problem.kv_heads, run);
    run.kv_head = item % problem.kv_heads;
  };
  for (int64_t item = 0; item < items; ++item) {
    Clear(Partial::At(totals + item * partial_size), partial_size - 2 * kMaxQueries);
  }
  for (int first = 0; first < shape.max_ranges; first += wave) {
    ForTasks(stream, items * wave, [&](int thread, int64_t task) {
      Run run;
      make_run(task / wave, run);
      const int range = first + task % wave;
      if (range >= NumRanges(run)) return;
      Workspace space = Workspace::At(stream.Scratch(thread, space_size), queries, width);
      space.range = Partial::At(partials + task * partial_size);
      AttendRangeOf(problem, run, range, space);
    });
    ForTasks(stream, items, [&](int thread, int64_t item) {
      Run run;
      make_run(item, run);
      const Partial total = Partial::At(totals + item * partial_size);
      for (int range = first; range < std::min(first + wave, NumRanges(run)); ++range) {
        const Partial part = Partial::At(partials + (item * wave + range - first) * partial_size);
        HWY_DYNAMIC_DISPATCH(Merge)(part, run.num_rows * group, width, total);
      }
      if (first + wave >= shape.max_ranges) HWY_DYNAMIC_DISPATCH(Finish)(problem, run, total);
    });
  }
}

}  // namespace

void Attention(const AttentionProblem& problem, CpuStream& stream) {
  YOIO_CHECK_EQ(problem.heads % problem.kv_heads, 0);
  YOIO_CHECK_LE(problem.heads / problem.kv_heads, kMaxGroup);
  const Shape shape = Survey(problem);
  const int64_t items = int64_t{shape.num_runs} * problem.kv_heads;
  const int num_threads = stream.pool().num_threads();
  if (num_threads > 1 && shape.max_ranges > 1 && items < kRunsPerThread * num_threads) {
    AttendRanges(problem, shape, stream);
  } else {
    AttendRuns(problem, shape, stream);
  }
}

}  // namespace yoio::kernels::cpu
#endif  // HWY_ONCE
