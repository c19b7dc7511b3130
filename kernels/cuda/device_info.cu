#include <cublasLt.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <limits>
#include <memory>
#include <type_traits>

#include "absl/functional/function_ref.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "kernels/cuda/device_info.h"
#include "kernels/cuda/status.h"

namespace yoio::kernels::cuda {
namespace {

// Twenty times the second-level cache: every access goes to memory.
constexpr size_t kProbeBytes = size_t{1} << 30;
constexpr int kProbeRuns = 20;
constexpr int kProbeThreads = 512;
constexpr int kNoiseBlocks = 1024;
constexpr int kBlocksPerMultiprocessor = 4;  // all 2,048 threads of one
constexpr int kLoadsInFlight = 8;            // 16-byte loads a thread has under way

struct FreeDeviceMemory {
  void operator()(void* data) const { cudaFree(data); }
};

struct DestroyEvent {
  void operator()(cudaEvent_t event) const { cudaEventDestroy(event); }
};
using Event = std::unique_ptr<std::remove_pointer_t<cudaEvent_t>, DestroyEvent>;

// Every word its own number, none of them zero.
__global__ void WriteNoise(uint4* data, size_t count) {
  const size_t stride = static_cast<size_t>(gridDim.x) * blockDim.x;
  for (size_t i = static_cast<size_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += stride) {
    const unsigned seed = static_cast<unsigned>(i) * 2654435761u;
    data[i] = {seed | 1u, (seed ^ 0x9e3779b9u) | 1u, (seed * 747796405u) | 1u, ~seed | 1u};
  }
}

// Reads data[0, count) once. None of it is zero, so nothing is written, but the compiler cannot know.
__global__ void ReadAll(const uint4* __restrict__ data, size_t count, unsigned* out) {
  const size_t stride = static_cast<size_t>(gridDim.x) * blockDim.x;
  unsigned seen = 0;
  for (size_t i = static_cast<size_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < count;
       i += stride * kLoadsInFlight) {
    uint4 words[kLoadsInFlight];
#pragma unroll
    for (int j = 0; j < kLoadsInFlight; ++j) {
      words[j] = i + j * stride < count ? __ldcs(data + i + j * stride) : uint4{};
    }
#pragma unroll
    for (int j = 0; j < kLoadsInFlight; ++j) seen |= words[j].x | words[j].y | words[j].z | words[j].w;
  }
  if (seen == 0) *out = seen;
}

absl::StatusOr<Event> NewEvent() {
  cudaEvent_t event;
  YOIO_RETURN_IF_ERROR(ToStatus(cudaEventCreate(&event), "cudaEventCreate"));
  return Event(event);
}

// Device memory full of noise: what is read must not be easier than what a model holds.
absl::StatusOr<std::unique_ptr<uint4, FreeDeviceMemory>> Noise(size_t bytes) {
  void* memory = nullptr;
  YOIO_RETURN_IF_ERROR(ToStatus(cudaMalloc(&memory, bytes), absl::StrCat("cudaMalloc of ", bytes, " bytes")));
  std::unique_ptr<uint4, FreeDeviceMemory> owner(static_cast<uint4*>(memory));
  WriteNoise<<<kNoiseBlocks, kProbeThreads>>>(owner.get(), bytes / sizeof(uint4));
  YOIO_RETURN_IF_ERROR(ToStatus(cudaDeviceSynchronize(), "WriteNoise"));
  return owner;
}

// The least time of `run`, which queues work on the default stream, in seconds.
absl::StatusOr<double> BestSeconds(absl::FunctionRef<void()> run) {
  YOIO_ASSIGN_OR_RETURN(const Event start, NewEvent());
  YOIO_ASSIGN_OR_RETURN(const Event stop, NewEvent());
  float best = std::numeric_limits<float>::infinity();  // milliseconds
  for (int i = 0; i < kProbeRuns; ++i) {
    cudaEventRecord(start.get());
    run();
    YOIO_RETURN_IF_ERROR(ToStatus(cudaGetLastError(), "launching a bandwidth probe"));
    cudaEventRecord(stop.get());
    YOIO_RETURN_IF_ERROR(ToStatus(cudaEventSynchronize(stop.get()), "a bandwidth probe"));
    float elapsed = 0.0f;
    YOIO_RETURN_IF_ERROR(
        ToStatus(cudaEventElapsedTime(&elapsed, start.get(), stop.get()), "cudaEventElapsedTime"));
    best = std::min(best, elapsed);
  }
  return best * 1e-3;
}

}  // namespace

std::string BuildDescription() {
  int cublas[3] = {};
  cublasLtGetProperty(MAJOR_VERSION, &cublas[0]);
  cublasLtGetProperty(MINOR_VERSION, &cublas[1]);
  cublasLtGetProperty(PATCH_LEVEL, &cublas[2]);
  return absl::StrCat("CUDA ", CudaVersionName(CUDART_VERSION), ", cuBLASLt ", cublas[0], ".", cublas[1], ".",
                      cublas[2]);
}

absl::StatusOr<std::vector<DeviceInfo>> ListDevices() {
  int count = 0;
  YOIO_RETURN_IF_ERROR(ToStatus(cudaGetDeviceCount(&count), "cudaGetDeviceCount"));
  std::vector<DeviceInfo> devices(count);
  for (int i = 0; i < count; ++i) {
    cudaDeviceProp properties;
    YOIO_RETURN_IF_ERROR(ToStatus(cudaGetDeviceProperties(&properties, i), "cudaGetDeviceProperties"));
    char pci_address[32] = {};
    YOIO_RETURN_IF_ERROR(
        ToStatus(cudaDeviceGetPCIBusId(pci_address, sizeof(pci_address), i), "cudaDeviceGetPCIBusId"));
    devices[i] = {.index = i,
                  .name = properties.name,
                  .pci_address = pci_address,
                  .compute_major = properties.major,
                  .compute_minor = properties.minor,
                  .multiprocessors = properties.multiProcessorCount,
                  .memory_bytes = properties.totalGlobalMem,
                  .l2_bytes = static_cast<size_t>(properties.l2CacheSize)};
  }
  return devices;
}

absl::Status CheckSupported(const DeviceInfo& device) {
  // The code of this file was compiled for every architecture of the build, so one kernel speaks for all.
  cudaFuncAttributes attributes;
  YOIO_RETURN_IF_ERROR(ToStatus(cudaSetDevice(device.index), "cudaSetDevice"));
  const cudaError_t error = cudaFuncGetAttributes(&attributes, ReadAll);
  if (error == cudaErrorNoKernelImageForDevice || error == cudaErrorInvalidDeviceFunction) {
    cudaGetLastError();  // it is not a broken context, only a question
    return absl::FailedPreconditionError(absl::StrCat(
        "device cuda:", device.index, ": ", device.name, " is sm_", device.compute_major,
        device.compute_minor, ", and this binary has code for sm_" YOIO_CUDA_ARCHITECTURES " alone"));
  }
  return ToStatus(error, "cudaFuncGetAttributes");
}

absl::StatusOr<double> MeasureReadBandwidth(int device) {
  YOIO_RETURN_IF_ERROR(ToStatus(cudaSetDevice(device), "cudaSetDevice"));
  int multiprocessors = 0;
  YOIO_RETURN_IF_ERROR(
      ToStatus(cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device),
               "cudaDeviceGetAttribute"));
  YOIO_ASSIGN_OR_RETURN(const auto data, Noise(kProbeBytes));
  YOIO_ASSIGN_OR_RETURN(const double seconds, BestSeconds([&] {
                          ReadAll<<<multiprocessors * kBlocksPerMultiprocessor, kProbeThreads>>>(
                              data.get(), kProbeBytes / sizeof(uint4),
                              reinterpret_cast<unsigned*>(data.get()));
                        }));
  return kProbeBytes / seconds;
}

absl::StatusOr<double> MeasureCopyBandwidth(int device) {
  YOIO_RETURN_IF_ERROR(ToStatus(cudaSetDevice(device), "cudaSetDevice"));
  YOIO_ASSIGN_OR_RETURN(const auto from, Noise(kProbeBytes));
  YOIO_ASSIGN_OR_RETURN(const auto to, Noise(kProbeBytes));
  YOIO_ASSIGN_OR_RETURN(const double seconds, BestSeconds([&] {
                          cudaMemcpyAsync(to.get(), from.get(), kProbeBytes, cudaMemcpyDeviceToDevice);
                        }));
  return 2.0 * kProbeBytes / seconds;
}

}  // namespace yoio::kernels::cuda
