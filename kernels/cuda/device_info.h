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

// The toolkit and the library that were linked, for example "CUDA 13.0, cuBLASLt 13.0.2". Needs no device.
// Thread-safe.
std::string BuildDescription();

// Every visible GPU, by index. UNAVAILABLE, saying what to do, when there is no driver, one that is too old,
// or no device. Thread-safe.
absl::StatusOr<std::vector<DeviceInfo>> ListDevices();

// FAILED_PRECONDITION, naming the GPU, its generation and what is expected, when this build has no code for
// it.
absl::Status CheckSupported(const DeviceInfo& device);

// Bytes per second at which `device` reads a gigabyte of its own memory, and at which it copies one (bytes
// read plus bytes written): what every memory-bound kernel is measured against. INTERNAL or
// RESOURCE_EXHAUSTED when the device cannot run it. Blocks for some milliseconds, and leaves `device` the
// calling thread's current one.
absl::StatusOr<double> MeasureReadBandwidth(int device);
absl::StatusOr<double> MeasureCopyBandwidth(int device);

}  // namespace yoio::kernels::cuda

#endif  // YOIO_KERNELS_CUDA_DEVICE_INFO_H_
