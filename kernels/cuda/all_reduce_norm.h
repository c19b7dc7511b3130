// ResidualRmsNorm of a sum over ranks, in one kernel that writes into the memory of the other GPUs.
#ifndef YOIO_KERNELS_CUDA_ALL_REDUCE_NORM_H_
#define YOIO_KERNELS_CUDA_ALL_REDUCE_NORM_H_

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/cuda_stream.h"
#include "kernels/ops.h"

namespace yoio::kernels::cuda {

inline constexpr int kMostPeers = 7;

// Eight bf16 on their way.
struct alignas(16) InboxLine {
  uint64_t words[2];
};

// Every byte of an inbox before the first reduction.
inline constexpr int kInboxFill = 0xff;

// What the ranks of a group reduce through: one inbox of InboxBytes(world) a rank, which the others write and
// that rank reads.
struct ReduceChannels {
  int rank;
  int world;
  InboxLine* inbox;              // of this rank
  InboxLine* peers[kMostPeers];  // of rank + 1, rank + 2, ... (modulo world), as this rank addresses them
  // Host memory. When it is not 0, kernels stop waiting, and what they return means nothing.
  const uint32_t* abort;
  // Device memory; adds up how long this rank waits for the others, once it has sent what is its own. Null:
  // nobody wants to know.
  WaitClock* clock;
};

// Whether AllReduceResidualNorm serves a group of this size at all.
bool CanReduceOverPeers(int world);
// And whether it serves this call: any number of rows between two ranks, few between more, of a width it
// knows.
bool CanReduceOverPeers(int world, const ResidualRmsNormArgs& args);

size_t InboxBytes(int world);

// As ResidualRmsNorm, of the sum over ranks of args.delta: added in float in rank order and not rounded, so
// that all ranks get the same bits. Every rank calls it with the same sizes in the same order, and no call of
// a rank runs beside another: they are on one stream, or on streams that wait for each other.
void AllReduceResidualNorm(const ResidualRmsNormArgs& args, const ReduceChannels& channels,
                           CudaStream& stream);

}  // namespace yoio::kernels::cuda

#endif  // YOIO_KERNELS_CUDA_ALL_REDUCE_NORM_H_
