// DenseAttention: one query row a sequence over all of its paged tokens.
//
// Floor: the tokens of all rows * kv_heads * 512 bytes read from memory (head_dim 128): 537 MB and 180 us for
// one row of 128K tokens and 8 kv heads at 2.99 TB/s.
//
// All blocks sweep one row after the other together: a block has one kv head and one lane, and takes every
// lanes-th cache block of 64 tokens. Blocks that run side by side then read side by side, all heads of a few
// megabytes at a time; a second kernel folds the lanes' sums of each row in order. Lanes depend on the device
// and kv_heads alone: a row's bits do not depend on the others. Rows of one sequence (a scored prompt) read
// its tokens once each, from the second-level cache as far as it holds them.
#include <algorithm>

#include "kernels/cuda/attention_decode_merge.cuh"
#include "kernels/cuda/attention_general.cuh"
#include "kernels/cuda/cuda_ops.h"

namespace yoio::kernels::cuda {
namespace decode {
namespace {

constexpr int kDenseStages = 2;  // of 34 KB
constexpr int kBlocksPerProcessor = 2;

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

// Walks the cache blocks of one lane and kv head, row after row.
class LaneFeeder {
 public:
  __device__ LaneFeeder(const PagedTokens& source, int num_rows, int kv_head, int own, int lanes)
      : source_(source), num_rows_(num_rows), kv_head_(kv_head), first_(own * kStep), stride_(lanes * kStep) {
    NextRow();
  }

  __device__ bool done() const { return row_ >= num_rows_; }

  template <class Ring>
  __device__ void Fill(Ring& ring, int stage, int turn) {
    const int warp = threadIdx.x / 32 - kWarps, lane = threadIdx.x % 32;
    const int valid = min(kTile, max(0, loaded_.count - token_ - warp * kTile));
    const int slot = block_ * kBlockTokens + warp * kTile + lane % kTile;
    ring.Fill(stage, warp, lane, source_.At(loaded_, slot, kv_head_), valid, turn);
    token_ += stride_;
    if (token_ < loaded_.count) {
      block_ = loaded_.table[token_ / kStep];
    } else {
      NextRow();
    }
  }

 private:
  // Goes to the next row that has a cache block for this lane.
  __device__ void NextRow() {
    while (++row_ < num_rows_) {
      loaded_ = source_.Load(row_);
      token_ = first_;
      if (token_ < loaded_.count) {
        block_ = loaded_.table[token_ / kStep];
        return;
      }
    }
  }

  const PagedTokens& source_;
  const int num_rows_, kv_head_, first_, stride_;
  int row_ = -1;
  int token_, block_;
  PagedTokens::Row loaded_;
};

// Lanes that have tokens of a row; the first writes the zeros of a row without any.
__device__ __forceinline__ int Parts(int count, int lanes) {
  return max(1, min(lanes, (count + kStep - 1) / kStep));
}

// grid: kv_heads * lanes blocks, neighbours of one lane; lanes = problem.parts.
template <int kStages>
__global__ void __launch_bounds__(kBlockThreads)
    DenseKernel(const __grid_constant__ PagedTokens source, const __grid_constant__ Problem problem) {
  extern __shared__ __align__(128) unsigned char tiles[];
  __shared__ uint64_t barriers[2 * kStages];
  __shared__ Exchange exchange;
  AllowNext();
  TileRing<kStages> ring(reinterpret_cast<__nv_bfloat16*>(tiles), barriers);
  const int kv_heads = problem.call.kv_heads, lanes = problem.parts;
  const int kv_head = blockIdx.x % kv_heads, own = blockIdx.x / kv_heads;
  WaitForPrevious();
  if (threadIdx.x >= kThreads) {
    LaneFeeder feeder(source, problem.call.num_rows, kv_head, own, lanes);
    CopySteps(ring, feeder);
    return;
  }

  Stepper<kStages> stepper(ring, exchange, problem.scale);
  for (int row = 0; row < problem.call.num_rows; ++row) {
    const int count = source.Load(row).count;
    const int parts = Parts(count, lanes);
    if (own >= parts) continue;
    Queries queries;
    LoadQueries(problem.Q(row, kv_head), problem.group, threadIdx.x % 32, queries);
    Sums sums;
    sums.Clear();
    for (int token = own * kStep; token < count; token += lanes * kStep) {
      stepper.Step(count - token, queries, sums);
    }
    if (parts == 1) {
      WriteOut(problem, row, kv_head, threadIdx.x / 32, threadIdx.x % 32, sums);
    } else {
      const int64_t place = (int64_t{row} * kv_heads + kv_head) * lanes + own;
      Publish(problem, place, threadIdx.x / 32, threadIdx.x % 32, sums);
    }
  }
}

// Folds the lanes' sums. A kernel of its own: a block that folded one row between others would fall behind,
// and so be the last to finish the next row too. grid: (kv heads, rows).
__global__ void __launch_bounds__(kThreads)
    DenseMergeKernel(const __grid_constant__ PagedTokens source, const __grid_constant__ Problem problem) {
  AllowNext();
  WaitForPrevious();
  const int row = blockIdx.y, kv_head = blockIdx.x;
  const int parts = Parts(source.Load(row).count, problem.parts);
  const int64_t place = (int64_t{row} * problem.call.kv_heads + kv_head) * problem.parts;
  if (parts > 1) Merge(problem, place, parts, row, kv_head);
}

template <int kStages>
void LaunchDense(CudaStream& stream, PagedTokens source, Call call, int places) {
  const int lanes = std::max(1, places / call.kv_heads);
  const size_t row_bytes =
      Problem::ScratchFloats(call.heads / call.kv_heads) * sizeof(float) * lanes * call.kv_heads;
  const int most_rows = static_cast<int>(kScratchBytes / row_bytes), num_rows = call.num_rows;
  for (int first = 0; first < num_rows; first += call.num_rows) {
    call.num_rows = std::min(most_rows, num_rows - first);
    const Problem problem = MakeProblem(stream, call, lanes, call.num_rows * call.kv_heads);
    Launch(stream, "DenseAttention", DenseKernel<kStages>,
           {.grid = dim3(call.kv_heads * lanes),
            .block = dim3(kBlockThreads),
            .shared_bytes = TileRing<kStages>::kBytes},
           source, problem);
    Launch(stream, "DenseAttention", DenseMergeKernel,
           {.grid = dim3(call.kv_heads, call.num_rows), .block = dim3(kThreads)}, source, problem);
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
  if (decode::TakesDecode(call)) {
    decode::LaunchDense<decode::kDenseStages>(stream, source, call,
                                              decode::kBlocksPerProcessor * stream.multiprocessors());
  } else {
    decode::LaunchGeneral(stream, "DenseAttention", source, call);
  }
}

}  // namespace yoio::kernels::cuda
