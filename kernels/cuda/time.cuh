// The clock of the device.
#ifndef YOIO_KERNELS_CUDA_TIME_CUH_
#define YOIO_KERNELS_CUDA_TIME_CUH_

#include <cstdint>

namespace yoio::kernels::cuda {

// In ns; only differences mean something.
__device__ __forceinline__ int64_t GlobalTime() {
  int64_t now;
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now)::"memory");
  return now;
}

}  // namespace yoio::kernels::cuda

#endif  // YOIO_KERNELS_CUDA_TIME_CUH_
