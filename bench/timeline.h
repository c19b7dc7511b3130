// Decode steps as a trace shows them: what ran on each GPU, and how the index came from rank 0 to the others.
#ifndef YOIO_BENCH_TIMELINE_H_
#define YOIO_BENCH_TIMELINE_H_

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "bench/gpu_trace.h"

namespace yoio::bench {

// Of all launches of a kernel, or all gaps between two.
struct Total {
  int count = 0;
  int64_t exclusive = 0;  // ns: of a kernel, from the end of those before it, where that came after its start
  int64_t whole = 0;      // ns
};
using Totals = std::map<std::string, Total>;

// Some equal steps on one GPU, queued one behind the other. Measured is from the start of the first step's
// first kernel to that of the last one's, so that each step brings its gap to the next. Times are sums over
// these whole steps, in ns.
class Timeline {
 public:
  // Of the activities of GPU `device`, by start. INTERNAL when the steps did not run the same number of
  // kernels.
  static absl::StatusOr<Timeline> Make(const std::vector<GpuActivity>& activities, int device, int steps);

  int whole_steps() const { return steps_ - 1; }
  int kernels_per_step() const { return static_cast<int>(kernels_.size()) / steps_; }
  int64_t span() const { return span_; }
  int64_t busy() const { return busy_; }        // while at least one kernel ran
  int64_t copying() const { return copying_; }  // while no kernel ran
  // Over each two consecutive kernels, from the end of the first to the start of the second, where that
  // starts later.
  int64_t exposed() const { return exposed_; }
  const Totals& by_kernel() const { return by_kernel_; }
  const Totals& gaps() const { return gaps_; }  // by the kernels on both sides

  // The kernels of one step, by start.
  std::span<const GpuActivity> step(int step) const {
    return std::span(kernels_).subspan(size_t(step) * kernels_per_step(), kernels_per_step());
  }

 private:
  Timeline() = default;

  int steps_ = 0;
  std::vector<GpuActivity> kernels_;
  int64_t span_ = 0, busy_ = 0, exposed_ = 0, copying_ = 0;
  Totals by_kernel_;
  Totals gaps_;
};

// How the index of one step came from where it was selected to the last rank. In ns.
struct IndexPath {
  int64_t
      broadcast;  // from the end of top-k, wherever it ended last, to that of the collective on the last rank
  int64_t wait;   // before the end of top-k, in which another rank had nothing left to do: the longest
};

// The median of each over the whole steps. `ranks` are in order. Index sets travel in the first broadcast or
// all-gather after top-k. NOT_FOUND when there is none.
absl::StatusOr<IndexPath> MedianIndexPath(std::span<const Timeline> ranks);

}  // namespace yoio::bench

#endif  // YOIO_BENCH_TIMELINE_H_
