// DenseAttention: one query row a sequence over all of its paged tokens.
//
// Floor: the tokens of all rows * kv_heads * 512 bytes read from memory (head_dim 128): 537 MB and 180 us for
// one row of 128K tokens and 8 kv heads at 2.99 TB/s.
//
// What counts is that memory is never idle, from the first microsecond to the last:
//   - A stage of the ring is one copy of 32 KB: 16 tokens of four kv heads, or as much of fewer.
//     Half that size is 6% slower, and a copy for each token 3%.
//   - Blocks sweep one row after the other together, a run of four stages in turn (single stages are 1.5%
//     slower); with a long stretch for each block the fast multiprocessors end a quarter earlier than the
//     slow ones. What is left of a row is dealt by single stages, and the next row on from where it ended.
//   - The second-level cache fetches 128 bytes at a time on an H200 (256 are 6% slower), 256 on an H100.
//   - The copying warp looks up the cache blocks of 32 stages at once.
//
// Each warp that computes leaves its sums of a row in scratch memory, and a second kernel folds them in
// order: a block that folded one row between others would fall behind, and so be the last to finish the next
// row too. How many blocks share a row follows from its length, the device and kv_heads alone: a row's bits
// do not depend on the others. Rows of one sequence (a scored prompt) read its tokens once each, from the
// second-level cache as far as it holds them.
#include <algorithm>

#include "kernels/cuda/attention_decode_merge.cuh"
#include "kernels/cuda/attention_general.cuh"
#include "kernels/cuda/bulk_copy.cuh"
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/tensor_map.h"

namespace yoio::kernels::cuda {
namespace decode {
namespace {

constexpr int kDenseStages = 6;
constexpr int kStageTiles = 4;     // each for a warp
constexpr int kRun = 4;            // stages that a block takes one after the other
constexpr int kLeastTokens = 256;  // of a row's that a block takes, unless there are no more
constexpr int kFoldWarps = 16;
constexpr int kPanel = 64;  // elements that a copied box is wide
constexpr int kHeadPanels = 2 * kHeadDim / kPanel;
constexpr int kBoxAlignment = 1024;  // bytes
constexpr int kStageBytes = kStageTiles * kTile * 2 * kHeadDim * sizeof(__nv_bfloat16);

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

// How many of `blocks` share a row. One without tokens has a block too, whose sums are zero.
__device__ int Sharers(int count, int blocks) {
  return max(1, min(blocks, (count + kLeastTokens - 1) / kLeastTokens));
}

// A stage of kHeads kv heads, as it is copied: panels of 64 elements, each of all its tokens.
template <int kHeads>
struct Stage {
  static constexpr int kHeadTiles = kStageTiles / kHeads;
  static constexpr int kTokens = kHeadTiles * kTile;

  // The tile of one warp.
  struct WarpTile {
    __device__ __forceinline__ const __nv_bfloat16* Key(int slab, int lane) const {
      return At(lane % 16, slab * 2 + lane / 16);
    }
    __device__ __forceinline__ const __nv_bfloat16* Value(int slab, int lane) const {
      return At(lane % 8 + lane / 16 * 8, (kHeadDim / 16 + slab) * 2 + lane / 8 % 2);
    }
    __device__ __forceinline__ const __nv_bfloat16* At(int token, int chunk) const {
      return stage + TilePlace<2 * kHeadDim * kHeads, kTokens>(first_token + token,
                                                               head * (kHeadPanels * kPanel / 8) + chunk);
    }

    const __nv_bfloat16* stage;
    int head, first_token;
  };
};

#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900

// Walks the rows, as one of `blocks` that share them, and the steps of each: stages, dealt to the blocks in
// runs as long as there is one for every block, then one by one.
class RowWalk {
 public:
  __device__ RowWalk(const PagedTokens& source, int num_rows, int block, int blocks, int step_tokens)
      : source_(source), num_rows_(num_rows), block_(block), blocks_(blocks), step_tokens_(step_tokens) {}

  // Goes to the next row that this block has a share of; false when there is none.
  __device__ bool Next() {
    while (++row < num_rows_) {
      first_ = (first_ + (sharers_ < blocks_ ? sharers_ : steps_ % blocks_)) % blocks_;
      loaded = source_.Load(row);
      sharers_ = Sharers(loaded.count, blocks_);
      steps_ = (loaded.count + step_tokens_ - 1) / step_tokens_;
      rank = block_ - first_ + (block_ < first_ ? blocks_ : 0);
      if (rank < sharers_) return true;
    }
    return false;
  }

  // Of this block.
  __device__ int steps() const { return (steps_ - rank + sharers_ - 1) / sharers_; }
  __device__ int Token(int step) const {
    const bool in_run = step < steps_ / (kRun * sharers_) * kRun;
    const int place = in_run ? (rank + step / kRun * sharers_) * kRun + step % kRun : rank + step * sharers_;
    return place * step_tokens_;
  }

  int row = -1;
  PagedTokens::Row loaded;
  int rank = 0;  // among the row's blocks

 private:
  const PagedTokens& source_;
  const int num_rows_, block_, blocks_, step_tokens_;
  int first_ = 0;  // block of rank 0
  int sharers_ = 0, steps_ = 0;
};

// Stages and their barriers, in shared memory.
struct DenseRing {
  __device__ uint32_t Full(int stage) const { return barriers + stage * 8; }
  __device__ uint32_t Empty(int stage) const { return barriers + (kDenseStages + stage) * 8; }
  __device__ const __nv_bfloat16* Stage(int stage) const { return stages + stage * (kStageBytes / 2); }

  const __nv_bfloat16* stages;
  uint32_t barriers;
};

// What the copying warp does, ahead of the others by as many steps as there are stages.
template <int kHeads>
__device__ void CopySteps(const PagedTokens& source, const CUtensorMap& map, RowWalk walk, int kv_head,
                          const DenseRing& ring) {
  constexpr int kAhead = 32;  // steps whose cache blocks are looked up together
  const int lane = threadIdx.x % 32;
  const uint64_t once = EvictFirst();
  RingPlace place;
  while (walk.Next()) {
    int slot = 0;  // of step `lane` of 32
    for (int step = 0; step < walk.steps(); ++step) {
      if (step % kAhead == 0) {
        slot = source.Find(walk.loaded, min(walk.Token(step + lane), walk.loaded.count - 1));
      }
      const int from[3] = {0, __shfl_sync(~0u, slot, step % kAhead), kv_head * kHeadPanels};
      if (lane == 0) {
        Wait(ring.Empty(place.stage), place.parity ^ 1);
        ArriveExpecting(ring.Full(place.stage), kStageBytes);
        CopyBox(SharedAddress(ring.Stage(place.stage)), map, from, ring.Full(place.stage), once);
      }
      place.Advance(kDenseStages);
    }
  }
}

// What each of the other warps does with its tile of every stage.
template <int kHeads>
__device__ void ComputeSteps(const Problem& problem, RowWalk walk, int kv_head, const DenseRing& ring) {
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int head = warp % kHeads, tile = warp / kHeads;
  RingPlace place;
  while (walk.Next()) {
    Queries queries;
    LoadQueries(problem.Q(walk.row, kv_head + head), problem.group, lane, queries);
    Sums<kHeadDim / 16> sums;
    sums.Clear();
    for (int step = 0; step < walk.steps(); ++step) {
      Wait(ring.Full(place.stage), place.parity);
      const typename Stage<kHeads>::WarpTile own = {ring.Stage(place.stage), head, tile * kTile};
      const int valid = walk.loaded.count - walk.Token(step) - tile * kTile;
      const Weights weights = WeighTile(own, valid, problem.scale, lane, queries);
      sums.Rescale(max(sums.maximum[0], weights.maximum[0]), max(sums.maximum[1], weights.maximum[1]));
      sums.template AddTile<false>(own, 0, lane, weights, valid);
      __syncwarp();
      if (lane == 0) Arrive(ring.Empty(place.stage));
      place.Advance(kDenseStages);
    }
    const int64_t pair = int64_t{walk.row} * problem.call.kv_heads + kv_head + head;
    const int part = walk.rank * Stage<kHeads>::kHeadTiles + tile;
    Publish(problem, pair * problem.parts + part, 0, lane, sums);
  }
}

// A warp for each tile of a stage, and one that copies. grid: groups of kHeads kv heads, times the blocks
// that share a row.
template <int kHeads>
__global__ void __launch_bounds__((kStageTiles + 1) * 32)
    DenseKernel(const __grid_constant__ CUtensorMap map, const __grid_constant__ PagedTokens source,
                const __grid_constant__ Problem problem) {
  extern __shared__ unsigned char raw[];
  __shared__ uint64_t barriers[2 * kDenseStages];
  AllowNext();
  const int warp = threadIdx.x / 32;
  const DenseRing ring = {
      reinterpret_cast<const __nv_bfloat16*>(raw + (-SharedAddress(raw) & (kBoxAlignment - 1))),
      SharedAddress(barriers)};
  if (threadIdx.x == 0) {
    for (int stage = 0; stage < kDenseStages; ++stage) {
      InitBarrier(ring.Full(stage), 1);
      InitBarrier(ring.Empty(stage), kStageTiles);
    }
    PublishBarriers();
    PrefetchMap(map);
  }
  __syncthreads();
  const int groups = problem.call.kv_heads / kHeads, kv_head = blockIdx.x % groups * kHeads;
  const RowWalk walk(source, problem.call.num_rows, blockIdx.x / groups, gridDim.x / groups,
                     Stage<kHeads>::kTokens);
  WaitForPrevious();
  if (warp == kStageTiles) {
    CopySteps<kHeads>(source, map, walk, kv_head, ring);
  } else {
    ComputeSteps<kHeads>(problem, walk, kv_head, ring);
  }
}

#else

template <int kHeads>
__global__ void DenseKernel(const __grid_constant__ CUtensorMap, const __grid_constant__ PagedTokens,
                            const __grid_constant__ Problem) {
  __trap();
}

#endif  // sm_90

// Folds the parts of each row and query head, `block_parts` of each block that shared it: each warp an equal
// run of them, then the runs in order. grid: (heads, rows).
__global__ void __launch_bounds__(kFoldWarps * 32)
    DenseMergeKernel(const __grid_constant__ PagedTokens source, const __grid_constant__ Problem problem,
                     int block_parts) {
  constexpr int kTogether = 9;  // an H100's 132 blocks take one round
  __shared__ QuadSums runs[kFoldWarps][32];
  AllowNext();
  WaitForPrevious();
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int kv_head = blockIdx.x / problem.group, query = blockIdx.x % problem.group, row = blockIdx.y;
  const int parts = Sharers(source.Load(row).count, problem.parts / block_parts) * block_parts;
  const int64_t place = (int64_t{row} * problem.call.kv_heads + kv_head) * problem.parts;
  runs[warp][lane] = FoldParts<kTogether>(problem, place, parts * warp / kFoldWarps,
                                          parts * (warp + 1) / kFoldWarps, query, lane * 4);
  __syncthreads();
  if (warp > 0) return;
  QuadSums all = runs[0][lane];
  for (int i = 1; i < kFoldWarps; ++i) {
    const QuadSums& next = runs[i][lane];
    all.Rescale(max(all.maximum, next.maximum));
    all.Add({next.sum[0], next.sum[1], next.sum[2], next.sum[3]}, next.weight, next.maximum);
  }
  *reinterpret_cast<uint2*>(problem.Out(row, kv_head, query) + lane * 4) = all.Normalised();
}

// The cache as [slots, panels of 64 elements], in boxes of a stage. How many slots there are is not known
// here: none past the tables' is asked for.
template <int kHeads>
CUtensorMap MapCache(const PagedTokens& source, CudaStream& stream) {
  constexpr int64_t kMostSlots = int64_t{1} << 31;
  const int64_t panels = int64_t{source.kv_heads} * kHeadPanels;
  constexpr int64_t kPanelBytes = kPanel * sizeof(__nv_bfloat16);
  return MapBoxes({.data = source.cache,
                   .sizes = {kPanel, kMostSlots, panels},
                   .strides = {panels * kPanelBytes, kPanelBytes},
                   .box = {kPanel, Stage<kHeads>::kTokens, kHeads * kHeadPanels}},
                  stream);
}

template <int kHeads>
void LaunchDense(CudaStream& stream, PagedTokens source, Call call) {
  constexpr int kHeadTiles = Stage<kHeads>::kHeadTiles;
  const int groups = call.kv_heads / kHeads, sharers = std::max(1, stream.multiprocessors() / groups);
  const int parts = sharers * kHeadTiles;
  const size_t row_bytes =
      Problem::ScratchFloats(call.heads / call.kv_heads) * sizeof(float) * parts * call.kv_heads;
  const int most_rows = static_cast<int>(kScratchBytes / row_bytes), num_rows = call.num_rows;
  const CUtensorMap map = MapCache<kHeads>(source, stream);
  for (int first = 0; first < num_rows; first += call.num_rows) {
    call.num_rows = std::min(most_rows, num_rows - first);
    const Problem problem = MakeProblem(stream, call, parts, call.num_rows * call.kv_heads);
    Launch(stream, "DenseAttention", DenseKernel<kHeads>,
           {.grid = dim3(groups * sharers),
            .block = dim3((kStageTiles + 1) * 32),
            .shared_bytes = kBoxAlignment + kDenseStages * kStageBytes},
           map, source, problem);
    Launch(stream, "DenseAttention", DenseMergeKernel,
           {.grid = dim3(call.heads, call.num_rows), .block = dim3(kFoldWarps * 32)}, source, problem,
           kHeadTiles);
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
  } else if (call.kv_heads % 4 == 0) {
    decode::LaunchDense<4>(stream, source, call);
  } else if (call.kv_heads % 2 == 0) {
    decode::LaunchDense<2>(stream, source, call);
  } else {
    decode::LaunchDense<1>(stream, source, call);
  }
}

}  // namespace yoio::kernels::cuda
