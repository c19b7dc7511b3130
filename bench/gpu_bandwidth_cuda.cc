#include "bench/gpu_bandwidth.h"
#include "kernels/cuda/device_info.h"

namespace yoio::bench {

absl::StatusOr<double> GpuCopyBandwidth(int device) { return kernels::cuda::MeasureCopyBandwidth(device); }

}  // namespace yoio::bench
