// How long a stream was in collectives that are not this project's kernels.
#ifndef YOIO_KERNELS_CUDA_WAIT_CLOCK_H_
#define YOIO_KERNELS_CUDA_WAIT_CLOCK_H_

#include "kernels/cuda/cuda_stream.h"
#include "kernels/ops.h"

namespace yoio::kernels::cuda {

// Around each collective, on its stream. `clock` is device memory.
void BeginWait(WaitClock* clock, CudaStream& stream);
void EndWait(WaitClock* clock, CudaStream& stream);

}  // namespace yoio::kernels::cuda

#endif  // YOIO_KERNELS_CUDA_WAIT_CLOCK_H_
