#include "bench/gpu_bandwidth.h"

namespace yoio::bench {

absl::StatusOr<double> GpuCopyBandwidth(int device) { return absl::UnimplementedError("built without CUDA"); }

}  // namespace yoio::bench
