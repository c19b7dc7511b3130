// DenseAttention: one query row a sequence over all of its paged tokens.
//
// Floor: the tokens of all rows * kv_heads * 512 bytes read from memory (head_dim 128): 537 MB and 180 us for
// one row of 128K tokens and 8 kv heads at 2.99 TB/s.
//
// A block takes all kv heads of a token together, up to 8 of them with a warp each, so that what it reads is
// contiguous, 64 KB at a time for 8 heads; a block a head reads 1.5% slower. Blocks sweep one row after the
// other together, a tile of 16 tokens in turn; each leaves its sums of a row in scratch memory, and a second
// kernel folds them in order: a block that folded one row between others would fall behind, and so be the
// last to finish the next row too. How many blocks share a row follows from its length, the device and
// kv_heads alone: a row's bits do not depend on the others. Rows of one sequence (a scored prompt) read its
// tokens once each, from the second-level cache as far as it holds them.
#include <algorithm>

#include "kernels/cuda/attention_decode_merge.cuh"
#include "kernels/cuda/attention_general.cuh"
#include "kernels/cuda/cuda_ops.h"

namespace yoio::kernels::cuda {
namespace decode {
namespace {

constexpr int kDenseStages = 3;
constexpr int kMostHeads = 8;     // of a block
constexpr int kPartTokens = 256;  // fewest of a part, unless it is the only one
constexpr int kFoldWarps = 4;

// All tokens of a paged sequence.
struct PagedTokens {
  struct Row {
    int count;
    const int32_t* table;
  };

  int max_blocks;
  const PagedRow* rows;
  const int32_t* block_tables;
  const __nv_bfloat16* cache;
  int kv_heads;
  int head_dim;

  __device__ Row Load(int row) const {
    const PagedRow paged = rows[row];
    return {paged.length, block_tables + int64_t{max(paged.slot, 0)} * max_blocks};
  }
  __device__ int Find(const Row& row, int token) const {
    return row.table[token / kBlockTokens] * kBlockTokens + token % kBlockTokens;
  }
  __device__ TokenAddress At(const Row&, int slot, int kv_head) const {
    const __nv_bfloat16* key = cache + (int64_t{slot} * kv_heads + kv_head) * 2 * head_dim;
    return {key, key + head_dim};
  }
  __device__ void Finish(const Row&, int, int) const {}
};

// Walks the rows, as one of `blocks` that share them. Row after row, parts are dealt to the blocks in turn.
class RowWalk {
 public:
  __device__ RowWalk(const PagedTokens& source, int num_rows, int block, int blocks)
      : source_(source), num_rows_(num_rows), block_(block), blocks_(blocks) {}

  // Goes to the next row that this block has a part of; false when there is none.
  __device__ bool Next() {
    while (++row < num_rows_) {
      first_ = (first_ + parts) % blocks_;
      loaded = source_.Load(row);
      parts = Parts(loaded.count, blocks_);
      part = block_ - first_ + (block_ < first_ ? blocks_ : 0);
      if (part < parts) return true;
    }
    return false;
  }

  // Parts of a row. One without tokens has a part too, whose sums are zero.
  __device__ static int Parts(int count, int blocks) {
    return max(1, min(blocks, (count + kPartTokens - 1) / kPartTokens));
  }

  int row = -1;
  PagedTokens::Row loaded;
  int parts = 0, part = 0;

 private:
  const PagedTokens& source_;
  const int num_rows_, block_, blocks_;
  int first_ = 0;  // block of part 0
};

template <int kHeads>
using DenseRing = TileRing<kDenseStages, 1, kHeads>;

template <int kHeads>
__device__ void CopyTiles(const PagedTokens& source, RowWalk walk, int kv_head, DenseRing<kHeads>& ring) {
  const int lane = threadIdx.x % 32;
  int stage = 0, turn = 0;
  while (walk.Next()) {
    for (int first = walk.part * kTile; first < walk.loaded.count; first += walk.parts * kTile) {
      // Places past the last token repeat it: they have no weight, but have to be numbers.
      const int slot = source.Find(walk.loaded, min(first + lane % kTile, walk.loaded.count - 1));
      ring.Fill(stage, turn, 0, lane, source.At(walk.loaded, slot, kv_head));
      if (++stage == kDenseStages) {
        stage = 0;
        turn ^= 1;
      }
    }
  }
}

template <int kHeads>
__device__ void ComputeTiles(const Problem& problem, RowWalk walk, int kv_head, DenseRing<kHeads>& ring) {
  constexpr int kPitch = DenseRing<kHeads>::kPitch;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  int stage = 0, turn = 0;
  while (walk.Next()) {
    Queries queries;
    LoadQueries(problem.Q(walk.row, kv_head + warp), problem.group, lane, queries);
    Sums<kHeadDim / 16> sums;
    sums.Clear();
    for (int first = walk.part * kTile; first < walk.loaded.count; first += walk.parts * kTile) {
      ring.WaitFull(stage, turn);
      const __nv_bfloat16* tile = ring.Tile(stage, warp);
      const Weights weights =
          WeighTile<kPitch>(tile, walk.loaded.count - first, problem.scale, lane, queries);
      sums.Rescale(max(sums.maximum[0], weights.maximum[0]), max(sums.maximum[1], weights.maximum[1]));
      sums.template AddTile<kPitch>(tile + kHeadDim, lane, weights);
      ring.Release(stage);
      if (++stage == kDenseStages) {
        stage = 0;
        turn ^= 1;
      }
    }
    const int64_t pair = int64_t{walk.row} * problem.call.kv_heads + kv_head + warp;
    Publish(problem, pair * problem.parts + walk.part, 0, lane, sums);
  }
}

// A warp for each of kHeads heads, and one that copies. grid: blocks that share a row = problem.parts, times
// kv_heads / kHeads.
template <int kHeads>
__global__ void __launch_bounds__((kHeads + 1) * 32)
    DenseKernel(const __grid_constant__ PagedTokens source, const __grid_constant__ Problem problem) {
  extern __shared__ __align__(128) unsigned char tiles[];
  __shared__ uint64_t barriers[2 * kDenseStages];
  AllowNext();
  DenseRing<kHeads> ring(reinterpret_cast<__nv_bfloat16*>(tiles), barriers);
  const int groups = problem.call.kv_heads / kHeads, kv_head = blockIdx.x % groups * kHeads;
  const RowWalk walk(source, problem.call.num_rows, blockIdx.x / groups, problem.parts);
  WaitForPrevious();
  if (threadIdx.x / 32 == kHeads) {
    CopyTiles<kHeads>(source, walk, kv_head, ring);
  } else {
    ComputeTiles<kHeads>(problem, walk, kv_head, ring);
  }
}

// Folds the parts of each row and query head: each warp a quarter of them, then the quarters in order. grid:
// (heads, rows).
__global__ void __launch_bounds__(kFoldWarps * 32)
    DenseMergeKernel(const __grid_constant__ PagedTokens source, const __grid_constant__ Problem problem) {
  __shared__ QuadSums quarters[kFoldWarps][32];
  AllowNext();
  WaitForPrevious();
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int kv_head = blockIdx.x / problem.group, query = blockIdx.x % problem.group, row = blockIdx.y;
  const int parts = RowWalk::Parts(source.Load(row).count, problem.parts);
  const int64_t place = (int64_t{row} * problem.call.kv_heads + kv_head) * problem.parts;
  quarters[warp][lane] =
      FoldParts(problem, place, parts * warp / kFoldWarps, parts * (warp + 1) / kFoldWarps, query, lane * 4);
  __syncthreads();
  if (warp > 0) return;
  QuadSums all = quarters[0][lane];
  for (int i = 1; i < kFoldWarps; ++i) {
    const QuadSums& next = quarters[i][lane];
    all.Rescale(max(all.maximum, next.maximum));
    all.Add({next.sum[0], next.sum[1], next.sum[2], next.sum[3]}, next.weight, next.maximum);
  }
  *reinterpret_cast<uint2*>(problem.Out(row, kv_head, query) + lane * 4) = all.Normalised();
}

template <int kHeads>
void LaunchDense(CudaStream& stream, PagedTokens source, Call call) {
  const int blocks = stream.multiprocessors() * (kMostHeads / kHeads);  // that run at a time
  const int parts = std::max(1, blocks / (call.kv_heads / kHeads));
  const size_t row_bytes =
      Problem::ScratchFloats(call.heads / call.kv_heads) * sizeof(float) * parts * call.kv_heads;
  const int most_rows = static_cast<int>(kScratchBytes / row_bytes), num_rows = call.num_rows;
  for (int first = 0; first < num_rows; first += call.num_rows) {
    call.num_rows = std::min(most_rows, num_rows - first);
    const Problem problem = MakeProblem(stream, call, parts, call.num_rows * call.kv_heads);
    Launch(stream, "DenseAttention", DenseKernel<kHeads>,
           {.grid = dim3(call.kv_heads / kHeads * parts),
            .block = dim3((kHeads + 1) * 32),
            .shared_bytes = DenseRing<kHeads>::kBytes},
           source, problem);
    Launch(stream, "DenseAttention", DenseMergeKernel,
           {.grid = dim3(call.heads, call.num_rows), .block = dim3(kFoldWarps * 32)}, source, problem);
    source.rows += call.num_rows;
    call.q += call.num_rows * call.q_stride;
    call.out += int64_t{call.num_rows} * call.heads * kHeadDim;
  }
}

}  // namespace
}  // namespace decode

void DenseAttention(const DenseAttentionArgs& args, CudaStream& stream) {
  const decode::PagedTokens source = {.max_blocks = args.max_blocks,
                                      .rows = args.rows,
                                      .block_tables = args.block_tables,
                                      .cache = Halves(args.cache),
                                      .kv_heads = args.kv_heads,
                                      .head_dim = args.head_dim};
  const decode::Call call = {.q = Halves(args.q),
                             .q_stride = args.q_stride,
                             .out = Halves(args.out),
                             .num_rows = args.num_rows,
                             .heads = args.heads,
                             .kv_heads = args.kv_heads,
                             .head_dim = args.head_dim};
  if (!decode::TakesDecode(call)) {
    decode::LaunchGeneral(stream, "DenseAttention", source, call);
  } else if (call.kv_heads % 8 == 0) {
    decode::LaunchDense<8>(stream, source, call);
  } else if (call.kv_heads % 4 == 0) {
    decode::LaunchDense<4>(stream, source, call);
  } else if (call.kv_heads % 2 == 0) {
    decode::LaunchDense<2>(stream, source, call);
  } else {
    decode::LaunchDense<1>(stream, source, call);
  }
}

}  // namespace yoio::kernels::cuda
