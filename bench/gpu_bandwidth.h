// The ceiling of a GPU's memory.
#ifndef YOIO_BENCH_GPU_BANDWIDTH_H_
#define YOIO_BENCH_GPU_BANDWIDTH_H_

#include "absl/status/statusor.h"

namespace yoio::bench {

// Bytes per second, read plus written, at which GPU number `device` copies a gigabyte of its own memory.
// UNIMPLEMENTED when this was built without GPUs.
absl::StatusOr<double> GpuCopyBandwidth(int device);

}  // namespace yoio::bench

#endif  // YOIO_BENCH_GPU_BANDWIDTH_H_
