// What this binary was built against, and the GPUs it finds.
#ifndef YOIO_KERNELS_CUDA_DEVICE_INFO_H_
#define YOIO_KERNELS_CUDA_DEVICE_INFO_H_

#include <cstddef>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace yoio::kernels::cuda {

struct DeviceInfo {
  int index = 0;  // among the devices visible to this process
  std::string name;
  std::string pci_address;
  int compute_major = 0;
  int compute_minor = 0;
  int multiprocessors = 0;
  size_t memory_bytes = 0;
  size_t l2_bytes = 0;
};

// The toolkit and the libraries that were linked, for example "CUDA 13.0, cuBLAS 13.0.2, NCCL 2.28.9". Needs
// no device. Thread-safe.
std::string BuildDescription();

// Every visible GPU, by index. UNAVAILABLE, in the driver's words, when there is no driver or no device.
// Thread-safe.
absl::StatusOr<std::vector<DeviceInfo>> ListDevices();

// Bytes per second at which `device` reads a gigabyte of its own memory: the floor that decode steps are
// measured against. INTERNAL or RESOURCE_EXHAUSTED when the device cannot run it. Blocks for some
// milliseconds, and leaves `device` the calling thread's current one.
absl::StatusOr<double> MeasureReadBandwidth(int device);

}  // namespace yoio::kernels::cuda

#endif  // YOIO_KERNELS_CUDA_DEVICE_INFO_H_
