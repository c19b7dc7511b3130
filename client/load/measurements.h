// What a run measures.
#ifndef YOIO_CLIENT_LOAD_MEASUREMENTS_H_
#define YOIO_CLIENT_LOAD_MEASUREMENTS_H_

#include <array>
#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "client/load/histogram.h"
#include "client/load/result.h"
#include "client/load/workload.h"

namespace yoio {

// What a request must keep to be good. Absent: anything goes.
struct Targets {
  std::optional<Duration> ttft, itl, e2e;
};

// How one request went.
struct RequestOutcome {
  TimePoint due, sent, first_token, last_token, ended;
  int64_t tokens = 0;
  bool cut_off = false;   // the run ended it
  bool injected = false;  // what was injected has happened
  absl::Status status;
};

// Collects from all streams at once. Requests that were due before the window opened are not measured.
// Thread-safe; what is called once a message takes no lock.
class Measurements {
 public:
  // The window opens at `start` and closes at `end`, which may be TimePoint::max().
  Measurements(std::vector<std::string> class_names, const Targets& targets, TimePoint start, TimePoint end);

  // Requests due now count.
  bool InWindow(TimePoint time) const { return time >= start_ && time < end_; }

  void Sent(const RequestPlan& plan, TimePoint due, TimePoint sent);
  // A message with `tokens` tokens. `last` is the time of the message before, absent in the first one with
  // tokens.
  void Message(const RequestPlan& plan, TimePoint due, int tokens, TimePoint now,
               std::optional<TimePoint> last);
  void Ended(const RequestPlan& plan, const RequestOutcome& outcome);

  // So far, for a progress line. Counts include the warm-up.
  struct Progress {
    int64_t sent = 0, ended = 0, failed = 0, tokens = 0, messages = 0;
    double ttft_p50 = 0, ttft_p99 = 0, itl_p50 = 0, itl_p99 = 0;
  };
  Progress progress() const;

  // The results of a window that closed at `end` or, when it had no end, when the last request ended.
  LoadResult Result(TimePoint end) const;

 private:
  struct Class {
    Histogram ttft, itl, tpot, e2e;
    std::atomic<int64_t> sent{0}, completed{0};
  };
  using Counter = std::atomic<int64_t>;

  // Whether it kept every target. One with an injection is neither good nor bad.
  bool IsGood(const RequestPlan& plan, const RequestOutcome& outcome) const;
  void Completed(const RequestPlan& plan, const RequestOutcome& outcome);
  void Failed(const RequestPlan& plan, const RequestOutcome& outcome);
  void CountError(const absl::Status& status, const std::string& reason);

  const std::vector<std::string> class_names_;
  const Targets targets_;
  const TimePoint start_, end_;
  std::vector<std::unique_ptr<Class>> classes_;
  Histogram lateness_, rejected_;
  Counter all_sent_{0}, all_ended_{0}, all_failed_{0}, all_tokens_{0}, all_messages_{0};
  Counter tokens_{0}, messages_{0}, prompt_tokens_{0}, ended_in_window_{0};
  Counter good_{0}, cut_off_{0}, wrong_length_{0};
  std::array<Counter, kInjections> injection_sent_{}, injection_happened_{}, injection_completed_{};

  mutable Mutex mutex_;
  std::map<std::pair<std::string, std::string>, ErrorCount> errors_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace yoio

#endif  // YOIO_CLIENT_LOAD_MEASUREMENTS_H_
