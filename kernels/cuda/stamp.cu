// Stamp: one thread that reads the clock.
//
// Cost: about 1.5 us of the stream, the way from the end of one kernel to the work of the next: the kernel
// waits until all before it has ended, and the one behind it until this has. What that one does before it
// waits (launch.cuh) goes on beside it. Steps are measured in a few such stamps, not layers.
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/launch.cuh"

namespace yoio::kernels::cuda {
namespace {

__device__ __forceinline__ int64_t GlobalTime() {
  int64_t now;
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now)::"memory");
  return now;
}

__global__ void __launch_bounds__(1) StampKernel(StampArgs args) {
  AllowNext();
  WaitForPrevious();
  const int64_t now = GlobalTime();
  if (args.part == 0) {
    for (int part = 1; part <= args.num_parts; ++part) args.times[part] = 0;
  } else {
    args.times[args.part] += now - args.times[0];
  }
  args.times[0] = now;
  // The host looks while this runs: at once, not when caches are written back.
  if (args.progress != nullptr) *static_cast<volatile int32_t*>(args.progress) = args.value;
}

}  // namespace

void Stamp(const StampArgs& args, CudaStream& stream) {
  Launch(stream, "Stamp", StampKernel, {dim3(1), dim3(1)}, args);
}

}  // namespace yoio::kernels::cuda
