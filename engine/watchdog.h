// No step takes longer than it may, whatever its ranks wait for.
#ifndef YOIO_ENGINE_WATCHDOG_H_
#define YOIO_ENGINE_WATCHDOG_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "engine/step_times.h"

namespace yoio {

struct WatchdogOptions {
  int first_rank = 0;  // the ranks [first_rank, first_rank + num_ranks) are watched
  int num_ranks = 1;
  int ranks_per_node = 1;  // for the evidence
  Duration timeout{0};
  // What a rank of this process is doing; nothing of others. Waits for nothing. May be empty.
  std::function<std::optional<RankState>(int rank)> look;
  // Called once, on the watchdog's thread, when a step is late: DEADLINE_EXCEEDED with the evidence, which is
  // how far each rank has come, and what those of this process are doing.
  std::function<void(absl::Status)> on_late;
};

// A step has ended when every watched rank has ended it. Its time begins when it is submitted, or when the
// step before it has ended, whichever is later. Thread-safe.
class Watchdog {
 public:
  explicit Watchdog(const WatchdogOptions& options);
  ~Watchdog() { Stop(); }

  // From its return on on_late is not called, nor still running. By one thread at a time.
  void Stop();

  // Steps are submitted in order, and every rank ends them in order.
  void Submitted(int64_t step);
  void Ended(int rank, int64_t step);

  // The watched ranks, in order.
  std::vector<RankState> Ranks() const;

 private:
  struct Step {
    int64_t number;
    TimePoint submitted;
  };

  void Run();
  // Waits until a step is late, and returns the evidence, or until the end.
  std::optional<absl::Status> AwaitLate();
  RankState StateOf(int index) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status Evidence() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const WatchdogOptions options_;
  mutable Mutex mutex_;
  CondVar stop_;
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
  std::deque<Step> under_way_ ABSL_GUARDED_BY(mutex_);  // oldest first
  std::vector<int64_t> ended_ ABSL_GUARDED_BY(mutex_);  // by watched rank: its last step; -1 before the first
  TimePoint last_end_ ABSL_GUARDED_BY(mutex_);
  std::thread thread_;
};

}  // namespace yoio

#endif  // YOIO_ENGINE_WATCHDOG_H_
