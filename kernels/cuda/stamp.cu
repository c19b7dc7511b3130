// Stamp, and the clock around a collective: one thread that reads the time.
//
// Cost: about 0.8 us of the stream, the way from the end of one kernel to the work of the next: the kernel
// waits until all before it has ended, and the one behind it until this has. What that one does before it
// waits (launch.cuh) goes on beside it. Steps are measured in a few such stamps, not layers.
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/time.cuh"
#include "kernels/cuda/wait_clock.h"

namespace yoio::kernels::cuda {
namespace {

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

__global__ void __launch_bounds__(1) BeginWaitKernel(WaitClock* clock) {
  AllowNext();
  WaitForPrevious();
  clock->since = GlobalTime();
}

__global__ void __launch_bounds__(1) EndWaitKernel(WaitClock* clock) {
  AllowNext();
  WaitForPrevious();
  clock->waited += GlobalTime() - clock->since;
}

}  // namespace

void Stamp(const StampArgs& args, CudaStream& stream) {
  Launch(stream, "Stamp", StampKernel, {dim3(1), dim3(1)}, args);
}

void BeginWait(WaitClock* clock, CudaStream& stream) {
  Launch(stream, "BeginWait", BeginWaitKernel, {dim3(1), dim3(1)}, clock);
}

void EndWait(WaitClock* clock, CudaStream& stream) {
  Launch(stream, "EndWait", EndWaitKernel, {dim3(1), dim3(1)}, clock);
}

}  // namespace yoio::kernels::cuda
