#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/index_scores.cc"
#include <algorithm>

#include "hwy/foreach_target.h"  // compiles this file once for each instruction set
#include "hwy/highway.h"
#include "kernels/cpu/cpu_ops.h"

HWY_BEFORE_NAMESPACE();
namespace yoio::kernels::cpu::HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

using Floats = hn::ScalableTag<float>;
using Vector = hn::Vec<Floats>;
constexpr int kLanes = hn::MaxLanes(Floats());
static_assert(kBlockTokens % kLanes == 0, "a group of keys lies in one block");

// The sums of neighbouring lanes: those of a in the lower half, those of b in the upper one.
#if HWY_TARGET == HWY_SCALAR
Vector PairSums(Vector a, Vector b) { return a; }  // one lane has no neighbour: never called
#else
Vector PairSums(Vector a, Vector b) {
  const Floats d;
  return hn::Add(hn::ConcatEven(d, b, a), hn::ConcatOdd(d, b, a));
}
#endif

// q . key for kLanes consecutive keys. Every product is summed in one order, whatever else is computed beside
// it: first down the lanes, then lanes pairwise. kDim is `dim` where it is known to the compiler, 0 where it
// is not.
template <int kDim>
Vector GroupScores(const float* HWY_RESTRICT q, const float* HWY_RESTRICT keys, int64_t dim) {
  const Floats d;
  const int64_t stride = kDim > 0 ? kDim : dim;
  const int64_t whole = stride / kLanes * kLanes;
  Vector sums[kLanes];
  for (int i = 0; i < kLanes; ++i) sums[i] = hn::Zero(d);
  for (int64_t j = 0; j < whole; j += kLanes) {
    const Vector query = hn::LoadU(d, q + j);
    for (int64_t i = 0; i < kLanes; ++i) {
      sums[i] = hn::MulAdd(query, hn::LoadU(d, keys + i * stride + j), sums[i]);
    }
  }
  for (int width = kLanes / 2; width > 0; width /= 2) {
    for (int64_t i = 0; i < width; ++i) sums[i] = PairSums(sums[2 * i], sums[2 * i + 1]);
  }
  if (whole == stride) return sums[0];
  HWY_ALIGN float rest[kLanes] = {};
  for (int i = 0; i < kLanes; ++i) {
    for (int64_t j = whole; j < stride; ++j) rest[i] += q[j] * keys[i * stride + j];
  }
  return hn::Add(sums[0], hn::Load(d, rest));
}

// Scores of the rows [begin, end), all of one sequence, against one block of keys that starts at `position`.
// Each group of keys stays in the first-level cache for all rows.
template <int kDim>
void ScoreBlock(const IndexScoresArgs& args, int begin, int end, int position, const float* keys) {
  const Floats d;
  for (int group = 0; group < kBlockTokens; group += kLanes) {
    const int first = position + group;
    for (int row = begin; row < end; ++row) {
      const int left = args.rows[row].length - first;
      if (left <= 0) continue;
      const Vector scores = GroupScores<kDim>(AsFloats(args.q) + row * int64_t{args.dim},
                                              keys + group * int64_t{args.dim}, args.dim);
      float* out = args.scores + row * args.score_stride + first;
      if (left >= kLanes) {
        hn::StoreU(scores, d, out);
      } else {
        HWY_ALIGN float last[kLanes];
        hn::Store(scores, d, last);
        std::copy_n(last, left, out);
      }
    }
  }
}

template <int kDim>
void ScoreBlocks(const IndexScoresArgs& args, int row_begin, int row_end, int block_begin, int block_end) {
  for (int begin = row_begin, end; begin < row_end; begin = end) {
    const int32_t slot = args.rows[begin].slot;
    int length = 0;
    for (end = begin; end < row_end && args.rows[end].slot == slot; ++end) {
      length = std::max(length, args.rows[end].length);
    }
    const int32_t* table = args.block_tables + int64_t{slot} * args.max_blocks;
    const int blocks = std::min(block_end, (length + kBlockTokens - 1) / kBlockTokens);
    for (int block = block_begin; block < blocks; ++block) {
      const float* keys = AsFloats(args.keys) + int64_t{table[block]} * kBlockTokens * args.dim;
      ScoreBlock<kDim>(args, begin, end, block * kBlockTokens, keys);
    }
  }
}

// Scores of the rows [row_begin, row_end) against the blocks [block_begin, block_end) of their tables.
void Scores(const IndexScoresArgs& args, int row_begin, int row_end, int block_begin, int block_end) {
  switch (args.dim) {
    case 64:
      return ScoreBlocks<64>(args, row_begin, row_end, block_begin, block_end);
    case 128:
      return ScoreBlocks<128>(args, row_begin, row_end, block_begin, block_end);
    case 256:
      return ScoreBlocks<256>(args, row_begin, row_end, block_begin, block_end);
    default:
      return ScoreBlocks<0>(args, row_begin, row_end, block_begin, block_end);
  }
}

}  // namespace
}  // namespace yoio::kernels::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace yoio::kernels::cpu {
namespace {

// Rows scored together against a group of keys: their queries (8 KiB at 128 dims) share the first-level cache
// with it.
constexpr int kRowTile = 16;

// Keys that one task streams: long enough to hide its start, short enough to balance two threads at 4K tokens
// and to stay in the second-level cache from one row tile to the next.
constexpr int64_t kTaskBytes = 256 << 10;

}  // namespace

HWY_EXPORT(Scores);

void IndexScores(const IndexScoresArgs& args, CpuStream& stream) {
  int length = 0;
  for (int row = 0; row < args.num_rows; ++row) length = std::max(length, args.rows[row].length);
  const int blocks = (length + kBlockTokens - 1) / kBlockTokens;
  const int task_blocks =
      std::max<int64_t>(1, kTaskBytes / (int64_t{kBlockTokens} * args.dim * sizeof(float)));
  const int64_t row_tiles = (args.num_rows + kRowTile - 1) / kRowTile;
  const int64_t block_tiles = (blocks + task_blocks - 1) / task_blocks;
  // Row tiles run fastest: rows of one sequence then find the keys where the tile before left them.
  stream.pool().ParallelFor(row_tiles * block_tiles, [&](int64_t task) {
    const int row = static_cast<int>(task % row_tiles) * kRowTile;
    const int block = static_cast<int>(task / row_tiles) * task_blocks;
    HWY_DYNAMIC_DISPATCH(Scores)
    (args, row, std::min(row + kRowTile, args.num_rows), block, std::min(block + task_blocks, blocks));
  });
}

}  // namespace yoio::kernels::cpu
#endif  // HWY_ONCE
