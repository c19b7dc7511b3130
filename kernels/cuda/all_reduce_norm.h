// ResidualRmsNorm of a sum over ranks, in one kernel that writes into the memory of the other GPUs.
#ifndef YOIO_KERNELS_CUDA_ALL_REDUCE_NORM_H_
#define YOIO_KERNELS_CUDA_ALL_REDUCE_NORM_H_

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/cuda_stream.h"
#include "kernels/ops.h"

namespace yoio::kernels::cuda {

inline constexpr int kMostPeers = 7;

// Data and flags that arrive together: two words of eight bytes, each four bytes of data below four of flag.
struct alignas(16) FlaggedLine {
  uint64_t words[2];
};

// What the ranks of a group reduce through: one inbox of InboxBytes(world) a rank, zeroed before the first
// reduction, which the others write and that rank reads.
struct ReduceChannels {
  int rank;
  int world;
  FlaggedLine* inbox;  // of this rank
  FlaggedLine*
      peers[kMostPeers];  // of the ranks rank + 1, rank + 2, ... (modulo world), as this one addresses them
  const uint32_t*
      abort;  // host memory; when it is not 0, kernels stop waiting, and what they return is undefined
};

// Whether AllReduceResidualNorm serves a group of this size at all.
bool CanReduceOverPeers(int world);
// And whether it serves this call: some few rows, of a width it knows.
bool CanReduceOverPeers(const ResidualRmsNormArgs& args);

size_t InboxBytes(int world);

// args.delta is the sum over ranks of every rank's delta, added in float in rank order and not rounded:
// all ranks get the same bits. Then as ResidualRmsNorm. Every rank calls it with the same sizes in the same
// order, all of its calls on one stream.
void AllReduceResidualNorm(const ResidualRmsNormArgs& args, const ReduceChannels& channels,
                           CudaStream& stream);

}  // namespace yoio::kernels::cuda

#endif  // YOIO_KERNELS_CUDA_ALL_REDUCE_NORM_H_
