// What ran on the GPUs, and when: CUPTI's record of every kernel, copy and fill of this process.
#ifndef YOIO_BENCH_GPU_TRACE_H_
#define YOIO_BENCH_GPU_TRACE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"

namespace yoio::bench {

struct GpuActivity {
  int device = 0;
  std::string kernel;  // its name in C++, without namespaces and parameters; empty for a copy or a fill
  int64_t start = 0, end = 0;  // ns, on one clock for all GPUs
};

// From here on everything is recorded, inside of CUDA graphs too. Graphs are best recorded after this call.
// It cannot be undone: what is to be timed without the weight of tracing comes first.
absl::Status StartGpuTrace();

// What ended since the last call, by start. The devices must be idle.
std::vector<GpuActivity> TakeGpuTrace();

}  // namespace yoio::bench

#endif  // YOIO_BENCH_GPU_TRACE_H_
