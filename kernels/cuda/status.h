// CUDA errors as absl::Status.
#ifndef YOIO_KERNELS_CUDA_STATUS_H_
#define YOIO_KERNELS_CUDA_STATUS_H_

#include <cuda_runtime_api.h>

#include <string_view>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace yoio::kernels::cuda {

// OK for cudaSuccess. Otherwise `what` failed, and the message ends with the runtime's own words:
// RESOURCE_EXHAUSTED when memory ran out, UNAVAILABLE without a driver or device, else INTERNAL.
inline absl::Status ToStatus(cudaError_t error, std::string_view what) {
  if (error == cudaSuccess) return absl::OkStatus();
  const std::string message =
      absl::StrCat(std::string(what), ": ", cudaGetErrorName(error), ": ", cudaGetErrorString(error));
  switch (error) {
    case cudaErrorMemoryAllocation:
      return absl::ResourceExhaustedError(message);
    case cudaErrorNoDevice:
    case cudaErrorInsufficientDriver:
    case cudaErrorSystemDriverMismatch:
      return absl::UnavailableError(message);
    default:
      return absl::InternalError(message);
  }
}

}  // namespace yoio::kernels::cuda

#endif  // YOIO_KERNELS_CUDA_STATUS_H_
