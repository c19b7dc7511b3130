#include "kernels/cuda/status.h"

#include "absl/strings/str_cat.h"

namespace yoio::kernels::cuda {
namespace {

absl::StatusCode CodeOf(cudaError_t error) {
  switch (error) {
    case cudaErrorMemoryAllocation:
      return absl::StatusCode::kResourceExhausted;
    case cudaErrorNoDevice:
    case cudaErrorInsufficientDriver:
    case cudaErrorStubLibrary:
    case cudaErrorDevicesUnavailable:
    case cudaErrorSystemNotReady:
    case cudaErrorSystemDriverMismatch:
    case cudaErrorCompatNotSupportedOnDevice:
      return absl::StatusCode::kUnavailable;
    case cudaErrorNoKernelImageForDevice:
    case cudaErrorUnsupportedPtxVersion:
      return absl::StatusCode::kFailedPrecondition;
    default:
      return absl::StatusCode::kInternal;
  }
}

// Empty where there is nothing to do but to report it.
std::string AdviceFor(cudaError_t error) {
  switch (error) {
    case cudaErrorNoDevice:
      return "no GPU is visible to this process: see nvidia-smi and CUDA_VISIBLE_DEVICES, and whether the "
             "container was given one";
    case cudaErrorInsufficientDriver: {
      int driver = 0;
      cudaDriverGetVersion(&driver);
      return DriverAdvice(driver);
    }
    case cudaErrorStubLibrary:
      return "ld.so found the toolkit's stub of libcuda.so: take its folder out of LD_LIBRARY_PATH";
    case cudaErrorDevicesUnavailable:
      return "another process holds the GPU for itself: see nvidia-smi";
    case cudaErrorSystemNotReady:
      return "the GPUs of this machine are not ready: see whether nvidia-fabricmanager runs";
    case cudaErrorSystemDriverMismatch:
      return "the driver's kernel module and its libraries differ in version: restart the machine";
    case cudaErrorCompatNotSupportedOnDevice:
      return "CUDA's forward-compatibility libraries do not know this GPU: take them out of LD_LIBRARY_PATH, "
             "or install a newer driver";
    case cudaErrorNoKernelImageForDevice:
    case cudaErrorUnsupportedPtxVersion:
      return "this binary has no code for this GPU: build it with its CMAKE_CUDA_ARCHITECTURES";
    default:
      return "";
  }
}

}  // namespace

absl::Status ToStatus(cudaError_t error, std::string_view what) {
  if (error == cudaSuccess) return absl::OkStatus();
  std::string message =
      absl::StrCat(std::string(what), ": ", cudaGetErrorName(error), ": ", cudaGetErrorString(error));
  const std::string advice = AdviceFor(error);
  if (!advice.empty()) absl::StrAppend(&message, "; ", advice);
  return absl::Status(CodeOf(error), message);
}

std::string DriverAdvice(int driver) {
  const std::string needed = CudaVersionName(CUDART_VERSION);
  if (driver == 0) {
    return absl::StrCat("no NVIDIA driver is installed, or the container was not given it: CUDA ", needed,
                        " needs one");
  }
  return absl::StrCat("the NVIDIA driver is for CUDA ", CudaVersionName(driver),
                      " at most, and this binary needs ", needed, ": install a newer driver");
}

std::string CudaVersionName(int version) { return absl::StrCat(version / 1000, ".", version % 1000 / 10); }

}  // namespace yoio::kernels::cuda
