// AllReduceResidualNorm: every rank pushes its rows into the inbox of every other, waits for theirs, and adds
// all of them to its residual. One trip over NVLink and no barrier between the ranks.
//
// Floor: the launch, about 1 us of NVLink latency, and world - 1 times 2 bytes a value at the link's rate:
// 0.6 us for 32 rows of 4096 to one peer at 450 GB/s. It runs twice a layer.
//
// Data is its own flag: a word of an inbox is kEmpty until data has come, and data never is. A store of eight
// bytes arrives whole or not at all, so nobody needs a fence. The reader empties what it has read.
//
// A block is a channel: it exchanges with the block of its number on the other ranks and with nobody else; so
// it does not matter that not all blocks run at once, as long as all ranks start them in order. A channel
// counts its reductions, the epochs, in device memory, because a replayed graph brings the same arguments
// each time. Inboxes hold two epochs, even and odd, and that is enough. Rank A writes epoch e + 2 of a
// channel over what B has read, and emptied, in epoch e. A's kernel of e + 2 starts to write when A's kernel
// of e + 1 has ended (WaitForPrevious), which had received B's data of e + 1, which B's kernel of e + 1 sent
// when B's kernel of e had ended, with all that it had written.
#include <algorithm>

#include "base/check.h"
#include "kernels/cuda/all_reduce_norm.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/norm_row.cuh"
#include "kernels/cuda/time.cuh"
#include "kernels/cuda/vectors.cuh"

namespace yoio::kernels::cuda {
namespace {

// Rows of one launch. Two ranks reduce any number of rows with several: on H200 2048 rows of 4096 take 50 us,
// and NCCL's sum with the norm behind it 101 us. More ranks leave to NCCL what would make each of them send
// more than 512 rows; with eight of them that is still more than the 64 rows that a product takes from its
// skinny side, and below those a result does not depend on the batch.
__host__ __device__ constexpr int LaunchRows(int world) { return world == 2 ? 2048 : 512 / (world - 1); }
constexpr int kMostRows = LaunchRows(2);

constexpr int kMostColumns = kMostBlockThreads * kVector;

// A peer that is late by more than kEagerSpins looks at the inbox, some 50 us, is waited for with less
// traffic. Every thread that waits looks at the abort word from time to time, across PCIe: a quarter of a
// million of them, at 8192 rows, so once in 50 ms.
constexpr int kEagerSpins = 64;
constexpr unsigned kSleepNanoseconds = 100;
constexpr int kSpinsPerLook = 1 << 16;

// Four times the NaN that no operation returns; and what is sent instead of it.
constexpr uint64_t kEmpty = ~uint64_t{0};
constexpr uint64_t kOtherNaN = 0x7fff'7fff'7fff'7fff;
static_assert(kInboxFill == 0xff, "an inbox begins empty");

// The epochs of the channels stand at the head of a rank's own inbox. They begin at the fill's value:
// whatever that is, it is the same on all ranks.
constexpr size_t kHeadLines = kMostRows * sizeof(uint32_t) / sizeof(InboxLine);

// Where a thread's line from the rank `hop` places behind the reader lies in its inbox, in an epoch.
template <int kWorld>
__device__ __forceinline__ InboxLine* LineFrom(InboxLine* inbox, int hop, uint32_t epoch) {
  const size_t channel = (epoch % 2 * (kWorld - 1) + hop - 1) * LaunchRows(kWorld) + blockIdx.x;
  return inbox + kHeadLines + channel * kMostBlockThreads + threadIdx.x;
}

__device__ __forceinline__ void Store(InboxLine* place, uint64_t low, uint64_t high) {
  asm volatile("st.relaxed.sys.global.v2.u64 [%0], {%1, %2};" ::"l"(place), "l"(low), "l"(high) : "memory");
}

__device__ __forceinline__ InboxLine Load(const InboxLine* place) {
  InboxLine line;
  asm volatile("ld.relaxed.sys.global.v2.u64 {%0, %1}, [%2];"
               : "=l"(line.words[0]), "=l"(line.words[1])
               : "l"(place)
               : "memory");
  return line;
}

__device__ __forceinline__ bool Aborted(const uint32_t* abort) {
  uint32_t word;
  asm volatile("ld.relaxed.sys.global.u32 %0, [%1];" : "=r"(word) : "l"(abort) : "memory");
  return word != 0;
}

__device__ __forceinline__ uint64_t NeverEmpty(uint32_t low, uint32_t high) {
  const uint64_t word = uint64_t{high} << 32 | low;
  return word == kEmpty ? kOtherNaN : word;
}

// Looks again at `place`, which held `line`, until both of its words have come or the group is aborted. Then
// empties it.
__device__ __forceinline__ uint4 Take(InboxLine* place, InboxLine line, const uint32_t* abort) {
  for (int spins = 1; line.words[0] == kEmpty || line.words[1] == kEmpty; ++spins) {
    if (spins > kEagerSpins) __nanosleep(kSleepNanoseconds);
    if (spins % kSpinsPerLook == 0 && Aborted(abort)) break;
    line = Load(place);
  }
  Store(place, kEmpty, kEmpty);
  return {static_cast<uint32_t>(line.words[0]), static_cast<uint32_t>(line.words[0] >> 32),
          static_cast<uint32_t>(line.words[1]), static_cast<uint32_t>(line.words[1] >> 32)};
}

// Without an answer that anybody would wait for.
__device__ __forceinline__ void AddTo(int64_t* sum, int64_t value) {
  asm volatile("red.relaxed.gpu.global.add.u64 [%0], %1;" ::"l"(sum), "l"(value) : "memory");
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
    const uint64_t low = NeverEmpty(mine.x, mine.y), high = NeverEmpty(mine.z, mine.w);
#pragma unroll
    for (int hop = 1; hop < kWorld; ++hop) {
      Store(LineFrom<kWorld>(channels.peers[hop - 1], hop, epoch), low, high);
    }
    if (!args.starts) LoadFloats(args.x + place, x);
  }
  __syncthreads();  // all threads know the epoch
  if (threadIdx.x == 0) epochs[blockIdx.x] = epoch;
  const bool measures = channels.clock != nullptr && blockIdx.x == 0 && threadIdx.x == 0;
  const int64_t sent = measures ? GlobalTime() : 0;

  if (inside) {
    InboxLine lines[kWorld];
#pragma unroll
    for (int rank = 0; rank < kWorld; ++rank) {  // asked for together
      const int hop = (channels.rank - rank + kWorld) % kWorld;
      if (hop != 0) lines[rank] = Load(LineFrom<kWorld>(channels.inbox, hop, epoch));
    }
    float sum[kVector] = {};
#pragma unroll
    for (int rank = 0; rank < kWorld; ++rank) {
      const int hop = (channels.rank - rank + kWorld) % kWorld;
      uint4 packed = mine;
      if (hop != 0) {
        packed = Take(LineFrom<kWorld>(channels.inbox, hop, epoch), lines[rank], channels.abort);
      }
      float values[kVector];
      Widen(packed, values);
#pragma unroll
      for (int i = 0; i < kVector; ++i) sum[i] += values[i];
    }
    if (measures) AddTo(&channels.clock->waited, GlobalTime() - sent);
#pragma unroll
    for (int i = 0; i < kVector; ++i) x[i] += sum[i];
    StoreFloats(x, args.x + place);
  }
  WriteNormed(args, inside, place, weight, x);
}

ResidualRmsNormArgs RowsFrom(ResidualRmsNormArgs args, int begin) {
  const int64_t skipped = int64_t{begin} * args.hidden;
  args.x += skipped;
  args.delta = Advance(args.delta, skipped, DType::kBF16);
  if (args.out != nullptr) args.out = Advance(args.out, skipped, DType::kBF16);
  return args;
}

}  // namespace

bool CanReduceOverPeers(int world) { return world == 2 || world == 4 || world == 8; }

bool CanReduceOverPeers(int world, const ResidualRmsNormArgs& args) {
  return CanReduceOverPeers(world) && (world == 2 || args.num_rows <= LaunchRows(world)) &&
         args.hidden % kVector == 0 && args.hidden <= kMostColumns;
}

size_t InboxBytes(int world) {
  const size_t channels = size_t{2} * (world - 1) * LaunchRows(world);
  return (kHeadLines + channels * kMostBlockThreads) * sizeof(InboxLine);
}

void AllReduceResidualNorm(const ResidualRmsNormArgs& args, const ReduceChannels& channels,
                           CudaStream& stream) {
  YOIO_CHECK(CanReduceOverPeers(channels.world, args));
  const auto kernel = channels.world == 2   ? AllReduceNorm<2>
                      : channels.world == 4 ? AllReduceNorm<4>
                                            : AllReduceNorm<8>;
  const unsigned threads = (args.hidden / kVector + kWarp - 1) / kWarp * kWarp;
  for (int begin = 0; begin < args.num_rows; begin += LaunchRows(channels.world)) {
    const int rows = std::min(args.num_rows - begin, LaunchRows(channels.world));
    Launch(stream, "AllReduceResidualNorm", kernel, {static_cast<unsigned>(rows), threads},
           RowsFrom(args, begin), channels);
  }
}

}  // namespace yoio::kernels::cuda
