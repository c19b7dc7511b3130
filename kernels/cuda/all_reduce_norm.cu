// AllReduceResidualNorm: every rank pushes its rows into the inbox of every other, waits for theirs, and adds
// all of them to its residual. One trip over NVLink and no barrier between the ranks.
//
// Floor: the launch, about 1 us of NVLink latency, and world - 1 times 4 bytes a value (half of them flags)
// at the link's rate: 1.2 us for 32 rows of 4096 to one peer at 450 GB/s. It runs twice a layer.
//
// Data travels with its flag in one store of eight bytes, which arrives whole or not at all; so a reader that
// sees the flag has the data, and nobody needs a fence. Flags are the number of the reduction, the epoch, so
// that nothing is ever cleared.
//
// A block is a channel: it exchanges with the block of its number on the other ranks and with nobody else. It
// counts its epochs in device memory, because a replayed graph brings the same arguments each time. Inboxes
// hold two epochs, even and odd, and that is enough. Rank A writes epoch e + 2 of a channel over what B read
// in epoch e. A's kernel of e + 2 starts to write when A's kernel of e + 1 has ended (WaitForPrevious), which
// had received B's data of e + 1, which B's kernel of e + 1 sent when B's kernel of e had ended: B has read
// it. Flags wrap after 2^32 epochs and are compared for equality with a line that was written 2 epochs
// before.
#include "base/check.h"
#include "kernels/cuda/all_reduce_norm.h"
#include "kernels/cuda/block_sum.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/vectors.cuh"

namespace yoio::kernels::cuda {
namespace {

// As many rows as a product takes from its skinny side: results of a generated row do not depend on the batch
// below that. The bench shows that more would still win over NCCL.
constexpr int kMostRows = 64;
constexpr int kMostColumns = kMostBlockThreads * kVector;

constexpr int kLineValues = 4;                 // bf16 in a line
constexpr int kLines = kVector / kLineValues;  // of a thread
constexpr int kChannelLines = kMostColumns / kLineValues;
constexpr int kSpinsPerLook =
    256;  // polls of the inbox between two looks at the abort word, which cross PCIe

static_assert(sizeof(FlaggedLine) == 16);

// The epochs of the channels stand at the head of a rank's own inbox.
constexpr size_t kHeadLines = kMostRows * sizeof(uint32_t) / sizeof(FlaggedLine);

// Where a thread's lines from one rank lie in an inbox, in an epoch of one parity: kLines of them, a row of
// threads apart.
__device__ __forceinline__ FlaggedLine* LinesFrom(FlaggedLine* inbox, int source, int world, uint32_t epoch) {
  const size_t channel = (epoch % 2 * world + source) * kMostRows + blockIdx.x;
  return inbox + kHeadLines + channel * kChannelLines + threadIdx.x;
}

__device__ __forceinline__ uint64_t Flagged(uint32_t data, uint32_t flag) {
  return uint64_t{flag} << 32 | data;
}

__device__ __forceinline__ void Send(FlaggedLine* place, uint32_t low, uint32_t high, uint32_t flag) {
  asm volatile("st.relaxed.sys.global.v2.u64 [%0], {%1, %2};" ::"l"(place), "l"(Flagged(low, flag)),
               "l"(Flagged(high, flag))
               : "memory");
}

__device__ __forceinline__ FlaggedLine Look(const FlaggedLine* place) {
  FlaggedLine line;
  asm volatile("ld.relaxed.sys.global.v2.u64 {%0, %1}, [%2];"
               : "=l"(line.words[0]), "=l"(line.words[1])
               : "l"(place)
               : "memory");
  return line;
}

__device__ __forceinline__ bool Holds(const FlaggedLine& line, uint32_t flag) {
  return line.words[0] >> 32 == flag && line.words[1] >> 32 == flag;
}

__device__ __forceinline__ bool Aborted(const uint32_t* abort) {
  uint32_t word;
  asm volatile("ld.relaxed.sys.global.u32 %0, [%1];" : "=r"(word) : "l"(abort) : "memory");
  return word != 0;
}

// `line` was seen at `place`: looks again until it holds the flag, or until the group is aborted.
__device__ __forceinline__ void Await(FlaggedLine& line, const FlaggedLine* place, uint32_t flag,
                                      const uint32_t* abort) {
  for (int spins = 1; !Holds(line, flag); ++spins) {
    if (spins % kSpinsPerLook == 0 && Aborted(abort)) return;
    line = Look(place);
  }
}

// sum = the thread's values of all ranks, in rank order; `mine` are this rank's.
template <int kWorld>
__device__ __forceinline__ void Gather(const ReduceChannels& channels, uint32_t epoch, uint4 mine,
                                       float (&sum)[kVector]) {
  constexpr int kBatch = kWorld < 4 ? kWorld : 4;  // ranks whose lines are asked for at once
#pragma unroll
  for (int i = 0; i < kVector; ++i) sum[i] = 0.0f;
#pragma unroll
  for (int first = 0; first < kWorld; first += kBatch) {
    FlaggedLine lines[kBatch][kLines];
#pragma unroll
    for (int j = 0; j < kBatch; ++j) {
      if (first + j == channels.rank) continue;
      const FlaggedLine* place = LinesFrom(channels.inbox, first + j, kWorld, epoch);
#pragma unroll
      for (int k = 0; k < kLines; ++k) lines[j][k] = Look(place + k * blockDim.x);
    }
#pragma unroll
    for (int j = 0; j < kBatch; ++j) {
      uint4 packed = mine;
      if (first + j != channels.rank) {
        const FlaggedLine* place = LinesFrom(channels.inbox, first + j, kWorld, epoch);
#pragma unroll
        for (int k = 0; k < kLines; ++k) Await(lines[j][k], place + k * blockDim.x, epoch, channels.abort);
        packed = {static_cast<uint32_t>(lines[j][0].words[0]), static_cast<uint32_t>(lines[j][0].words[1]),
                  static_cast<uint32_t>(lines[j][1].words[0]), static_cast<uint32_t>(lines[j][1].words[1])};
      }
      float values[kVector];
      Widen(packed, values);
#pragma unroll
      for (int i = 0; i < kVector; ++i) sum[i] += values[i];
    }
  }
}

// A row a block, eight values a thread.
template <int kWorld>
__global__ void __launch_bounds__(kMostBlockThreads)
    AllReduceNorm(const __grid_constant__ ResidualRmsNormArgs args,
                  const __grid_constant__ ReduceChannels channels) {
  AllowNext();
  const int column = threadIdx.x * kVector;
  const int64_t place = int64_t{blockIdx.x} * args.hidden + column;
  const bool inside = column < args.hidden;
  float weight[kVector], x[kVector] = {};
  if (inside && args.weight != nullptr) LoadFloats(args.weight + column, weight);
  WaitForPrevious();

  uint32_t* epochs = reinterpret_cast<uint32_t*>(channels.inbox);
  const uint32_t epoch = epochs[blockIdx.x] + 1;
  uint4 mine = {};
  if (inside) {
    mine = *reinterpret_cast<const uint4*>(Halves(args.delta) + place);
#pragma unroll
    for (int i = 0; i < kWorld - 1; ++i) {
      FlaggedLine* lines = LinesFrom(channels.peers[i], channels.rank, kWorld, epoch);
      Send(lines, mine.x, mine.y, epoch);
      Send(lines + blockDim.x, mine.z, mine.w, epoch);
    }
    if (!args.starts) LoadFloats(args.x + place, x);
  }
  __syncthreads();  // all threads know the epoch
  if (threadIdx.x == 0) epochs[blockIdx.x] = epoch;

  if (inside) {
    float sum[kVector];
    Gather<kWorld>(channels, epoch, mine, sum);
#pragma unroll
    for (int i = 0; i < kVector; ++i) x[i] += sum[i];
    StoreFloats(x, args.x + place);
  }
  if (args.weight == nullptr) return;
  float squares = 0.0f;
#pragma unroll
  for (int i = 0; i < kVector; ++i) squares += x[i] * x[i];
  const float scale = rsqrtf(BlockSum(squares) / static_cast<float>(args.hidden) + args.eps);
  if (!inside) return;
#pragma unroll
  for (int i = 0; i < kVector; ++i) x[i] *= scale * weight[i];
  *reinterpret_cast<uint4*>(Halves(args.out) + place) = Narrow(x);
}

}  // namespace

bool CanReduceOverPeers(int world) { return world == 2 || world == 4 || world == 8; }

bool CanReduceOverPeers(const ResidualRmsNormArgs& args) {
  return args.num_rows <= kMostRows && args.hidden % kVector == 0 && args.hidden <= kMostColumns;
}

size_t InboxBytes(int world) {
  const size_t channels = size_t{2} * world * kMostRows;
  return (kHeadLines + channels * kChannelLines) * sizeof(FlaggedLine);
}

void AllReduceResidualNorm(const ResidualRmsNormArgs& args, const ReduceChannels& channels,
                           CudaStream& stream) {
  YOIO_CHECK(CanReduceOverPeers(channels.world) && CanReduceOverPeers(args));
  const auto kernel = channels.world == 2   ? AllReduceNorm<2>
                      : channels.world == 4 ? AllReduceNorm<4>
                                            : AllReduceNorm<8>;
  const unsigned rows = args.num_rows;
  const unsigned threads = (args.hidden / kVector + kWarp - 1) / kWarp * kWarp;
  Launch(stream, "AllReduceResidualNorm", kernel, {rows, threads}, args, channels);
}

}  // namespace yoio::kernels::cuda
