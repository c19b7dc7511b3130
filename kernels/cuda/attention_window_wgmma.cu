// The chunks of prompts in WindowAttention, for heads of 128 on sm_90a. Floor: that of attention_window.cu.
//
// One block a multiprocessor takes job after job. Four of its warps only copy, and run ahead across jobs, so
// that a window's few tiles of keys do not each begin with a wait; two warpgroups of 64 rows each multiply. A
// warpgroup has its queries in registers, and turns scores into weights while the values of the tile before
// are still being added and the other warpgroup's products run.
#include <algorithm>

#include "kernels/cuda/attention_window_chunk.cuh"
#include "kernels/cuda/wgmma.cuh"

namespace yoio::kernels::cuda::window {
namespace {

constexpr int kDim = 128;
constexpr int kGroupThreads = 128;
constexpr int kGroups = 2;  // that multiply
constexpr int kGroupRows = 64;
constexpr int kRows = kGroups * kGroupRows;
constexpr int kThreads = (kGroups + 1) * kGroupThreads;
constexpr int kStages = 4;
constexpr int kQueryStages = 2;

struct Shared {
  Half q[kQueryStages][kRows * kDim];  // the outputs, in the end
  Half k[kStages][kKeys * kDim];
  Half v[kStages][kKeys * kDim];
  uint64_t q_full[kQueryStages];
  uint64_t q_empty[kQueryStages];
  uint64_t full[kStages];
  uint64_t empty[kStages];
};

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

constexpr int kPanelBytes = kKeys * 128;
// Registers of a thread, together what 384 threads may have: copying needs few.
constexpr int kCopyRegisters = 40;
constexpr int kMultiplyRegisters = 232;

__device__ __forceinline__ uint32_t SharedAddress(const void* shared) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(shared));
}

__device__ __forceinline__ void InitBarrier(uint64_t& barrier, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(SharedAddress(&barrier)), "r"(arrivals)
               : "memory");
}

__device__ __forceinline__ void Arrive(uint64_t& barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(SharedAddress(&barrier)) : "memory");
}

// Arrives once all copies of this thread so far have.
__device__ __forceinline__ void ArriveWithCopies(uint64_t& barrier) {
  asm volatile("cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%0];" ::"r"(SharedAddress(&barrier))
               : "memory");
}

// Waits for the end of a phase: the first has parity 0.
__device__ __forceinline__ void Wait(uint64_t& barrier, uint32_t parity) {
  asm volatile(
      "{\n.reg .pred done;\n"
      "again:\nmbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
      "@!done bra again;\n}\n" ::"r"(SharedAddress(&barrier)),
      "r"(parity)
      : "memory");
}

// A place in a ring of stages that are filled and emptied in turn.
template <int kCount>
struct Turn {
  int stage = 0;
  uint32_t parity = 0;  // of the round

  __device__ __forceinline__ void Next() {
    if (++stage == kCount) stage = 0, parity ^= 1;
  }
};

__device__ __forceinline__ Job JobOf(const WindowAttentionArgs& args, const SpanBatch& batch, int index) {
  return FindJob(args, batch, index % batch.num_tiles, index / batch.num_tiles, kRows);
}

__device__ __forceinline__ void CopyJobs(const WindowAttentionArgs& args, const SpanBatch& batch, int thread,
                                         Shared& shared) {
  Turn<kQueryStages> query;
  Turn<kStages> turn;
  for (int i = blockIdx.x; i < batch.num_tiles * args.kv_heads; i += gridDim.x) {
    const Job job = JobOf(args, batch, i);
    Wait(shared.q_empty[query.stage], query.parity ^ 1);
    CopyQueries<kDim, kRows, kGroupThreads>(args, job, thread, shared.q[query.stage]);
    ArriveWithCopies(shared.q_full[query.stage]);
    query.Next();
    for (int tile = job.first_tile; tile <= job.last_tile; ++tile) {
      Wait(shared.empty[turn.stage], turn.parity ^ 1);
      CopyKeys<kDim, kGroupThreads>(args, job, tile, thread, shared.k[turn.stage], shared.v[turn.stage]);
      ArriveWithCopies(shared.full[turn.stage]);
      turn.Next();
    }
  }
}

using Queries = uint32_t[kDim / 16][4];

__device__ __forceinline__ void LoadQueries(const Half* q, int row, Queries& queries) {
  const int lane = threadIdx.x % kWarp;
#pragma unroll
  for (int step = 0; step < kDim / 16; ++step) {
    LoadMatrices(q + TilePlace<kDim, kRows>(row + lane % 16, step * 2 + lane / 16), queries[step]);
  }
}

// Queues the scores of a tile.
__device__ __forceinline__ void ScoreTile(const Queries& queries, const Half* k, Scores<1>& scores) {
  const uint64_t tile = TileDescriptor(k, kPanelBytes);
  BeginProducts();
  MultiplyRows<false>(queries[0], tile, scores[0]);
#pragma unroll
  for (int step = 1; step < kDim / 16; ++step) {
    const int bytes = step / 4 * kPanelBytes + step % 4 * 32;
    MultiplyRows<true>(queries[step], tile + (bytes >> 4), scores[0]);
  }
  EndProducts();
}

// Queues the sum of a tile's values.
__device__ __forceinline__ void AddValues(const uint32_t (&weights)[kKeys / 16][4], const Half* v,
                                          Rows<kDim, 1>& rows) {
  const uint64_t tile = TileDescriptor(v, kPanelBytes);
  BeginProducts();
#pragma unroll
  for (int step = 0; step < kKeys / 16; ++step) {
    MultiplyColumns(weights[step], tile + (step * 16 * 128 >> 4), rows.out[0]);
  }
  EndProducts();
}

// A tile's weights, narrowed, as the next product takes them.
using Weights = uint32_t[kKeys / 16][4];

// Turns a tile's scores into weights while the values of the tile before are still being added; then waits
// for those, and brings them to the new maxima.
__device__ __forceinline__ void FinishTile(const WindowAttentionArgs& args, int tile, float scale,
                                           Rows<kDim, 1>& rows, Scores<1>& scores, Weights& weights) {
  float factor[1][2];
  MaskTile(rows, tile, args.window, scores);
  WeighTile(scale, rows, scores, factor);
  WaitForProducts<0>();
  Pin(rows.out[0]);
  RescaleRows(factor, rows);
#pragma unroll
  for (int step = 0; step < kKeys / 16; ++step) NarrowWeights(scores[0], step, weights[step]);
}

__device__ __forceinline__ void MultiplyJob(const WindowAttentionArgs& args, const Job& job, int row,
                                            const Half* q, Turn<kStages>& turn, Shared& shared,
                                            Rows<kDim, 1>& rows) {
  const float scale = ScoreScale(kDim);
  const bool is_first_lane = threadIdx.x % kWarp == 0;
  Queries queries;
  Scores<1> scores = {};
  Weights weights;
  LoadQueries(q, row, queries);
  Wait(shared.full[turn.stage], turn.parity);
  SeeSharedStores();
  Pin(scores[0]);
  Pin(rows.out[0]);
  ScoreTile(queries, shared.k[turn.stage], scores);
  WaitForProducts<0>();
  Pin(scores[0]);
  FinishTile(args, job.first_tile, scale, rows, scores, weights);
  for (int tile = job.first_tile + 1; tile <= job.last_tile; ++tile) {
    const int before = turn.stage;
    turn.Next();
    Wait(shared.full[turn.stage], turn.parity);
    SeeSharedStores();
    Pin(scores[0]);
    Pin(rows.out[0]);
    ScoreTile(queries, shared.k[turn.stage], scores);
    AddValues(weights, shared.v[before], rows);
    WaitForProducts<1>();
    Pin(scores[0]);
    FinishTile(args, tile, scale, rows, scores, weights);
    if (is_first_lane) Arrive(shared.empty[before]);
  }
  Pin(rows.out[0]);
  AddValues(weights, shared.v[turn.stage], rows);
  WaitForProducts<0>();
  Pin(rows.out[0]);
  if (is_first_lane) Arrive(shared.empty[turn.stage]);
  turn.Next();
}

__device__ __forceinline__ void MultiplyJobs(const WindowAttentionArgs& args, const SpanBatch& batch, int row,
                                             Shared& shared) {
  Turn<kQueryStages> query;
  Turn<kStages> turn;
  for (int i = blockIdx.x; i < batch.num_tiles * args.kv_heads; i += gridDim.x) {
    const Job job = JobOf(args, batch, i);
    Rows<kDim, 1> rows;
    StartRows(job, job.first + row, rows);
    Wait(shared.q_full[query.stage], query.parity);
    MultiplyJob(args, job, row, shared.q[query.stage], turn, shared, rows);
    WriteRows<kDim, kRows>(args, job, job.first + row, rows, row, shared.q[query.stage]);
    __syncwarp();
    if (threadIdx.x % kWarp == 0) Arrive(shared.q_empty[query.stage]);
    query.Next();
  }
}

#endif

__global__ void __launch_bounds__(kThreads, 1)
    WarpgroupChunks(WindowAttentionArgs args, const __grid_constant__ SpanBatch batch) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  extern __shared__ uint4 memory[];
  // Panels begin at multiples of 1024 bytes, which dynamic shared memory does not promise.
  Shared& shared = *reinterpret_cast<Shared*>((reinterpret_cast<uintptr_t>(memory) + 1023) / 1024 * 1024);
  AllowNext();
  if (threadIdx.x == 0) {
    constexpr int kMultiplyingWarps = kGroups * kGroupThreads / kWarp;
    for (int i = 0; i < kQueryStages; ++i) {
      InitBarrier(shared.q_full[i], kGroupThreads);
      InitBarrier(shared.q_empty[i], kMultiplyingWarps);
    }
    for (int i = 0; i < kStages; ++i) {
      InitBarrier(shared.full[i], kGroupThreads);
      InitBarrier(shared.empty[i], kMultiplyingWarps);
    }
  }
  __syncthreads();
  WaitForPrevious();
  if (threadIdx.x < kGroupThreads) {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kCopyRegisters));
    CopyJobs(args, batch, threadIdx.x, shared);
  } else {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kMultiplyRegisters));
    MultiplyJobs(args, batch, (threadIdx.x - kGroupThreads) / kWarp * 16, shared);
  }
#else
  __trap();
#endif
}

}  // namespace

// A binary for plain sm_90 would not do: whoever builds for this GPU names sm_90a.
bool HasWarpgroupProducts(CudaStream& stream) {
  cudaFuncAttributes attributes{};
  stream.Note(cudaFuncGetAttributes(&attributes, WarpgroupChunks), "cudaFuncGetAttributes");
  return attributes.ptxVersion == 90 && attributes.binaryVersion == 90;
}

void LaunchWarpgroupChunks(const WindowAttentionArgs& args, SpanBatch batch, CudaStream& stream) {
  batch.Cut(args.heads / args.kv_heads, kRows);
  const int jobs = batch.num_tiles * args.kv_heads;
  const unsigned blocks = std::min(jobs, stream.multiprocessors());
  Launch(stream, "WindowAttention", WarpgroupChunks, {blocks, kThreads, sizeof(Shared) + 1024}, args, batch);
}

}  // namespace yoio::kernels::cuda::window
