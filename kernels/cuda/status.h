// CUDA errors as absl::Status.
#ifndef YOIO_KERNELS_CUDA_STATUS_H_
#define YOIO_KERNELS_CUDA_STATUS_H_

#include <cuda_runtime_api.h>

#include <string>
#include <string_view>

#include "absl/status/status.h"

namespace yoio::kernels::cuda {

// OK for cudaSuccess. Otherwise `what` failed: the message goes on with the runtime's own words and, where
// the machine is at fault and not the program, with what to do about it. RESOURCE_EXHAUSTED when memory ran
// out; UNAVAILABLE without a driver and a GPU that can be used; FAILED_PRECONDITION when this build has no
// code for the GPU; else INTERNAL.
absl::Status ToStatus(cudaError_t error, std::string_view what);

// What to do when the driver is older than this build: `driver` is what cudaDriverGetVersion says, 0 without
// one.
std::string DriverAdvice(int driver);

// "13.0" for 13000.
std::string CudaVersionName(int version);

}  // namespace yoio::kernels::cuda

#endif  // YOIO_KERNELS_CUDA_STATUS_H_
