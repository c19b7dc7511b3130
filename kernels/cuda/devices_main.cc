// yoio-devices: prints what this build links and, for every GPU it finds, its size and its measured read
// bandwidth.
//
// Exits 0 when at least one GPU can be used, 1 otherwise.

#include <cstdio>

#include "kernels/cuda/device_info.h"

namespace yoio::kernels::cuda {
namespace {

int PrintDevices() {
  std::printf("built with %s\n", BuildDescription().c_str());
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
    const absl::StatusOr<double> bandwidth = MeasureReadBandwidth(device.index);
    if (bandwidth.ok()) {
      std::printf("reads %.2f TB/s\n", *bandwidth * 1e-12);
      ++usable;
    } else {
      std::printf("%s\n", bandwidth.status().ToString().c_str());
    }
  }
  return usable > 0 ? 0 : 1;
}

}  // namespace
}  // namespace yoio::kernels::cuda

int main() { return yoio::kernels::cuda::PrintDevices(); }
