// yoio-devices: prints what this build links and, for every GPU it finds, its size and how fast it reads and
// copies its memory.
//
// Exits 0 when at least one GPU can be used, 1 otherwise.

#include <nccl.h>

#include <cstdio>

#include "base/status.h"
#include "kernels/cuda/device_info.h"

namespace yoio::kernels::cuda {
namespace {

absl::Status PrintBandwidth(const DeviceInfo& device) {
  YOIO_RETURN_IF_ERROR(CheckSupported(device));
  YOIO_ASSIGN_OR_RETURN(const double read, MeasureReadBandwidth(device.index));
  YOIO_ASSIGN_OR_RETURN(const double copy, MeasureCopyBandwidth(device.index));
  std::printf("reads %.2f TB/s, copies %.2f TB/s\n", read * 1e-12, copy * 1e-12);
  return absl::OkStatus();
}

int PrintDevices() {
  int nccl = 0;
  ncclGetVersion(&nccl);
  std::printf("built with %s, NCCL %d.%d.%d\n", BuildDescription().c_str(), nccl / 10000, nccl / 100 % 100,
              nccl % 100);
  const absl::StatusOr<std::vector<DeviceInfo>> devices = ListDevices();
  if (!devices.ok()) {
    std::fprintf(stderr, "%s\n", devices.status().ToString().c_str());
    return 1;
  }
  int usable = 0;
  for (const DeviceInfo& device : *devices) {
    std::printf("cuda:%d  %s  %s  sm_%d%d  %d multiprocessors  %.1f GiB  %.0f MiB second-level cache  ",
                device.index, device.name.c_str(), device.pci_address.c_str(), device.compute_major,
                device.compute_minor, device.multiprocessors, device.memory_bytes / 0x1p30,
                device.l2_bytes / 0x1p20);
    const absl::Status status = PrintBandwidth(device);
    if (status.ok()) {
      ++usable;
    } else {
      std::printf("%s\n", status.ToString().c_str());
    }
  }
  return usable > 0 ? 0 : 1;
}

}  // namespace
}  // namespace yoio::kernels::cuda

int main() { return yoio::kernels::cuda::PrintDevices(); }
