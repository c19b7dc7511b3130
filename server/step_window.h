// Steps that are still to come.
#ifndef YOIO_SERVER_STEP_WINDOW_H_
#define YOIO_SERVER_STEP_WINDOW_H_

#include <algorithm>
#include <cstdint>
#include <vector>

#include "base/clock.h"
#include "engine/flight_recorder.h"

namespace yoio {

// The steps planned from its construction on: so many at most, and none that has not ended by `end`. Not
// thread-safe; the recorder outlives it.
class StepWindow {
 public:
  StepWindow(const FlightRecorder& recorder, int max_steps, TimePoint end)
      : recorder_(recorder), first_(recorder.last_step() + 1), last_(first_ + max_steps - 1), end_(end) {}

  // Whether no step can be added any more.
  bool closed() const {
    if (Clock::now() >= end_) return true;
    if (recorder_.last_step() < last_) return false;
    const std::vector<StepRecord> last = recorder_.Steps(last_, last_);
    return last.empty() || last.front().ended.has_value();  // empty: forgotten
  }
  // Those that have ended, as far as they are remembered.
  std::vector<StepRecord> Take() const {
    std::vector<StepRecord> steps = recorder_.Steps(first_, std::min(last_, recorder_.last_step()));
    while (!steps.empty() && !steps.back().ended) steps.pop_back();
    return steps;
  }

 private:
  const FlightRecorder& recorder_;
  const int64_t first_;
  const int64_t last_;
  const TimePoint end_;
};

}  // namespace yoio

#endif  // YOIO_SERVER_STEP_WINDOW_H_
