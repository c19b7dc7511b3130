#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/attention_range.cc"
#include "kernels/cpu/attention_range.h"

#include <algorithm>
#include <cmath>

#include "hwy/foreach_target.h"  // compiles this file once for each instruction set
#include "hwy/highway.h"
// Must come after foreach_target.h.
#include "hwy/contrib/math/math-inl.h"

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

// scores[j, query] = key j . query, for kKeys keys and kVectors vectors of queries. Brings in as many keys of
// the next block meanwhile.
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

// What the queries of a run see, one a lane.
struct Sight {
  HWY_ALIGN int32_t first[kMaxQueries] = {};
  HWY_ALIGN int32_t last[kMaxQueries] = {};  // 0 where there is no query: hides nothing that counts
  KeyRange common;                           // what all of them see

  Sight(const Run& run, int group) : common(run.ranges[0]) {
    for (int row = 0; row < run.num_rows; ++row) {
      std::fill_n(first + row * group, group, run.ranges[row].begin);
      std::fill_n(last + row * group, group, run.ranges[row].end - 1);
      common.begin = std::max(common.begin, run.ranges[row].begin);
      common.end = std::min(common.end, run.ranges[row].end);
    }
  }
};

// Keys [begin, end) of the block that starts at `position`, for all queries of a run and one head.
void AttendBlock(const Workspace& space, int num_queries, int64_t stride, int width, const Sight& sight,
                 int32_t position, int begin, int end, const KeyRows& rows, const KeyRows& next) {
  HWY_ALIGN float factors[kMaxQueries];
  ScoreBlock(space, stride, width, begin, end, rows, next);
  if (position + begin < sight.common.begin || position + end > sight.common.end) {
    HideKeys(sight.first, sight.last, stride, begin, end, position, space.scores);
  }
  SoftmaxBlock(stride, begin, end, space.scores, space.range, factors);
  for (int query = 0; query < num_queries; query += kQueries) {
    AddValuesOf<kQueries>(std::min(kQueries, num_queries - query), space.scores + query, stride,
                          factors + query, begin, end, rows, next, width,
                          space.range.values + int64_t{query} * width);
  }
}

// Queries of the run for one key/value head, scaled, one a lane.
void LoadQueries(const AttentionProblem& problem, const Run& run, int kv_head, int64_t stride, float* out) {
  const int group = problem.heads / problem.kv_heads;
  const float scale = 1.0f / std::sqrt(static_cast<float>(problem.head_dim));
  std::fill(out, out + Width(problem) * stride, 0.0f);
  for (int row = 0; row < run.num_rows; ++row) {
    const float* q = problem.q + (run.row + row) * problem.q_stride + kv_head * group * problem.head_dim;
    for (int g = 0; g < group; ++g, q += problem.head_dim) {
      float* lane = out + row * group + g;
      for (int i = 0; i < problem.head_dim; ++i) lane[i * stride] = q[i] * scale;
    }
  }
}

// Points rows[h] at the keys, for head h of the run, of the block that starts at `position`; those that no
// row sees at zeros.
void LocateBlock(const AttentionProblem& problem, const Run& run, int32_t position, const float* nothing,
                 KeyRows* rows) {
  const int32_t begin = std::max(position, run.keys.begin);
  const int32_t end = std::min(position + kBlockTokens, run.keys.end);
  for (int h = 0; h < run.num_kv_heads; ++h) {
    for (const float** list : {rows[h].k, rows[h].v}) {
      std::fill(list, list + (begin - position), nothing);
      std::fill(list + (end - position), list + kBlockTokens, nothing);
    }
    problem.locate(run.row, run.kv_head + h, begin, end, rows[h]);
  }
}

// The part of a block that head h brings in while it is computed: tokens one after the other, all heads of
// each, because memory is fastest when read in long pieces.
KeyRows Share(const KeyRows* rows, int num_heads, int h) {
  KeyRows share;
  for (int i = 0; i < kBlockTokens; ++i) {
    const int piece = h * kBlockTokens + i;
    share.k[i] = rows[piece % num_heads].k[piece / num_heads];
    share.v[i] = rows[piece % num_heads].v[piece / num_heads];
  }
  return share;
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

void AttendRangeImpl(const AttentionProblem& problem, const Run& run, int32_t begin, int32_t end,
                     const Workspace* spaces) {
  const int width = Width(problem);
  const int group = problem.heads / problem.kv_heads;
  const int num_queries = run.num_rows * group;
  const int64_t stride = RoundUp(num_queries, kLanes);
  const Sight sight(run, group);
  for (int h = 0; h < run.num_kv_heads; ++h) {
    const Partial& range = spaces[h].range;
    LoadQueries(problem, run, run.kv_head + h, stride, spaces[h].queries);
    std::fill_n(range.maximum, kMaxQueries, kNoMaximum);
    std::fill_n(range.sum, kMaxQueries, 0.0f);
    std::fill_n(range.values, int64_t{num_queries} * width, 0.0f);
  }
  const float* nothing = std::fill_n(spaces[0].nothing, width, 0.0f) - width;

  begin = std::max(begin, run.keys.begin);
  end = std::min(end, run.keys.end);
  KeyRows rows[2][kMaxHeadsTogether];
  int32_t position = begin / kBlockTokens * kBlockTokens;
  LocateBlock(problem, run, position, nothing, rows[0]);
  for (int block = 0; position < end; ++block, position += kBlockTokens) {
    const KeyRows* current = rows[block % 2];
    KeyRows* next = rows[(block + 1) % 2];
    const bool more = position + kBlockTokens < run.keys.end;
    if (more) LocateBlock(problem, run, position + kBlockTokens, nothing, next);

    // Keys that nobody sees are left out in whole groups.
    const int first = std::max(0, begin - position) / kKeys * kKeys;
    const int last = static_cast<int>(RoundUp(std::min(kBlockTokens, end - position), kKeys));
    for (int h = 0; h < run.num_kv_heads; ++h) {
      const KeyRows ahead = Share(more ? next : current, run.num_kv_heads, h);
      const bool aligned = width == problem.head_dim;
      AttendBlock(spaces[h], num_queries, stride, width, sight, position, first, last,
                  aligned ? current[h] : Pack(problem, current[h], first, last, spaces[h]), ahead);
    }
  }
}

void MergeImpl(const Partial& part, int num_queries, int width, const Partial& total) {
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

void FinishImpl(const AttentionProblem& problem, const Run& run, int kv_head, const Partial& total) {
  const Floats d;
  const int group = problem.heads / problem.kv_heads;
  const int width = Width(problem);
  for (int query = 0; query < run.num_rows * group; ++query) {
    const int64_t head = int64_t{run.row + query / group} * problem.heads + kv_head * group + query % group;
    // A row that sees no key has summed nothing: its values stay zero.
    const Vector sum = hn::Set(d, total.sum[query] == 0.0f ? 1.0f : total.sum[query]);
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

HWY_EXPORT(AttendRangeImpl);
HWY_EXPORT(MergeImpl);
HWY_EXPORT(FinishImpl);

void AttendRange(const AttentionProblem& problem, const Run& run, int32_t begin, int32_t end,
                 const Workspace* spaces) {
  HWY_DYNAMIC_DISPATCH(AttendRangeImpl)(problem, run, begin, end, spaces);
}

void Merge(const Partial& part, int num_queries, int width, const Partial& total) {
  HWY_DYNAMIC_DISPATCH(MergeImpl)(part, num_queries, width, total);
}

void Finish(const AttentionProblem& problem, const Run& run, int kv_head, const Partial& total) {
  HWY_DYNAMIC_DISPATCH(FinishImpl)(problem, run, kv_head, total);
}

}  // namespace yoio::kernels::cpu
#endif  // HWY_ONCE
