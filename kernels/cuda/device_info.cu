#include <cublas_v2.h>
#include <cuda_runtime.h>
#include <nccl.h>

#include <memory>
#include <type_traits>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "kernels/cuda/device_info.h"
#include "kernels/cuda/status.h"

namespace yoio::kernels::cuda {
namespace {

constexpr size_t kProbeBytes = size_t{1}
                               << 30;  // twenty times the second-level cache: every read goes to memory
constexpr int kProbeRuns = 10;
constexpr int kProbeThreads = 512;
constexpr int kBlocksPerMultiprocessor = 4;  // all 2,048 threads of one
constexpr int kLoadsInFlight = 8;            // 16-byte loads a thread has under way

struct FreeDeviceMemory {
  void operator()(void* data) const { cudaFree(data); }
};

struct DestroyEvent {
  void operator()(cudaEvent_t event) const { cudaEventDestroy(event); }
};
using Event = std::unique_ptr<std::remove_pointer_t<cudaEvent_t>, DestroyEvent>;

// Reads data[0, count) once. All of it is zero, so nothing is written, but the compiler cannot know.
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
  if (seen != 0) *out = seen;
}

absl::StatusOr<Event> NewEvent() {
  cudaEvent_t event;
  YOIO_RETURN_IF_ERROR(ToStatus(cudaEventCreate(&event), "cudaEventCreate"));
  return Event(event);
}

std::string CudaVersion(int version) { return absl::StrCat(version / 1000, ".", version % 1000 / 10); }

}  // namespace

std::string BuildDescription() {
  int cublas[3] = {};
  cublasGetProperty(MAJOR_VERSION, &cublas[0]);
  cublasGetProperty(MINOR_VERSION, &cublas[1]);
  cublasGetProperty(PATCH_LEVEL, &cublas[2]);
  int nccl = 0;
  ncclGetVersion(&nccl);
  return absl::StrCat("CUDA ", CudaVersion(CUDART_VERSION), ", cuBLAS ", cublas[0], ".", cublas[1], ".",
                      cublas[2], ", NCCL ", nccl / 10000, ".", nccl / 100 % 100, ".", nccl % 100);
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

absl::StatusOr<double> MeasureReadBandwidth(int device) {
  YOIO_RETURN_IF_ERROR(ToStatus(cudaSetDevice(device), "cudaSetDevice"));
  int multiprocessors = 0;
  YOIO_RETURN_IF_ERROR(
      ToStatus(cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device),
               "cudaDeviceGetAttribute"));
  void* memory = nullptr;
  YOIO_RETURN_IF_ERROR(ToStatus(cudaMalloc(&memory, kProbeBytes + sizeof(uint4)), "cudaMalloc"));
  const std::unique_ptr<void, FreeDeviceMemory> owner(memory);
  YOIO_RETURN_IF_ERROR(ToStatus(cudaMemset(memory, 0, kProbeBytes + sizeof(uint4)), "cudaMemset"));
  YOIO_ASSIGN_OR_RETURN(const Event start, NewEvent());
  YOIO_ASSIGN_OR_RETURN(const Event stop, NewEvent());

  const uint4* data = static_cast<const uint4*>(memory);
  unsigned* out = reinterpret_cast<unsigned*>(static_cast<char*>(memory) + kProbeBytes);
  float best = 0.0f;  // milliseconds
  for (int run = 0; run < kProbeRuns; ++run) {
    cudaEventRecord(start.get());
    ReadAll<<<multiprocessors * kBlocksPerMultiprocessor, kProbeThreads>>>(data, kProbeBytes / sizeof(uint4),
                                                                           out);
    YOIO_RETURN_IF_ERROR(ToStatus(cudaGetLastError(), "launching ReadAll"));
    cudaEventRecord(stop.get());
    YOIO_RETURN_IF_ERROR(ToStatus(cudaEventSynchronize(stop.get()), "ReadAll"));
    float elapsed = 0.0f;
    YOIO_RETURN_IF_ERROR(
        ToStatus(cudaEventElapsedTime(&elapsed, start.get(), stop.get()), "cudaEventElapsedTime"));
    if (run == 0 || elapsed < best) best = elapsed;
  }
  return kProbeBytes / (best * 1e-3);
}

}  // namespace yoio::kernels::cuda
