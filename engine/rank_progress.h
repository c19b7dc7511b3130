// What one rank is doing, for those who look from outside while it works or hangs.
#ifndef YOIO_ENGINE_RANK_PROGRESS_H_
#define YOIO_ENGINE_RANK_PROGRESS_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <utility>

#include "absl/status/statusor.h"
#include "base/clock.h"
#include "engine/comm/watched_communicator.h"
#include "engine/step_times.h"
#include "kernels/backend.h"

namespace yoio {

// Written by the rank's thread, and its phase by the device itself; read by any thread, which waits for
// nothing.
class RankProgress final : public CollectiveWatch {
 public:
  // RESOURCE_EXHAUSTED when there is no room for a word. `backend`, the rank's, outlives it.
  static absl::StatusOr<std::unique_ptr<RankProgress>> Create(int rank, kernels::Backend& backend);

  // Rank thread only, as all but state(): `step` is what the device is at.
  void Begun(int64_t step) { step_.store(step, std::memory_order_relaxed); }
  void Entered(Collective collective) override { collective_.store(collective, std::memory_order_relaxed); }
  void Left(Duration took) override {
    collective_.store(Collective::kNone, std::memory_order_relaxed);
    comm_wait_ += took;
  }
  // In collectives, since the call before.
  Duration TakeCommWait() { return std::exchange(comm_wait_, Duration{}); }
  // Where the device notes the phase it is in, as a number.
  int32_t* phase_word() { return word_.As<int32_t>(); }

  // Without `ended_step`, which others know.
  RankState state() const;

 private:
  RankProgress(int rank, kernels::Buffer word);

  const int rank_;
  const kernels::Buffer word_;  // host memory, int32
  std::atomic<int64_t> step_{-1};
  std::atomic<Collective> collective_{Collective::kNone};
  Duration comm_wait_{};  // the rank's thread's
};

}  // namespace yoio

#endif  // YOIO_ENGINE_RANK_PROGRESS_H_
