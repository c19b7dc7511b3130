// A sum over the threads of one block.
#ifndef YOIO_KERNELS_CUDA_BLOCK_SUM_CUH_
#define YOIO_KERNELS_CUDA_BLOCK_SUM_CUH_

#include <cuda_runtime.h>

namespace yoio::kernels::cuda {

inline constexpr int kWarp = 32;
inline constexpr int kMostBlockThreads = 1024;

// The sum of one value per thread, to all threads of the block, added in one order whatever the grid. Once a
// kernel: its shared memory is not free for a second sum.
__device__ __forceinline__ float BlockSum(float value) {
  __shared__ float warp_sums[kMostBlockThreads / kWarp];
  const int lane = threadIdx.x % kWarp, num_warps = blockDim.x / kWarp;
#pragma unroll
  for (int mask = kWarp / 2; mask > 0; mask /= 2) value += __shfl_xor_sync(~0u, value, mask);
  if (num_warps == 1) return value;
  if (lane == 0) warp_sums[threadIdx.x / kWarp] = value;
  __syncthreads();
  value = lane < num_warps ? warp_sums[lane] : 0.0f;
#pragma unroll
  for (int mask = kWarp / 2; mask > 0; mask /= 2) value += __shfl_xor_sync(~0u, value, mask);
  return value;
}

}  // namespace yoio::kernels::cuda

#endif  // YOIO_KERNELS_CUDA_BLOCK_SUM_CUH_
