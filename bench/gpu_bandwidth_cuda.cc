#include "bench/gpu_bandwidth.h"
#include "kernels/cuda/device_info.h"

namespace yoio::bench {

absl::StatusOr<double> GpuCopyBandwidth() { return kernels::cuda::MeasureCopyBandwidth(0); }

}  // namespace yoio::bench
