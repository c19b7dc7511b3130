// How many prompt tokens a step may take, so that it ends long before the watchdog looks.
#ifndef YOIO_ENGINE_STEP_PACE_H_
#define YOIO_ENGINE_STEP_PACE_H_

#include <cstdint>
#include <deque>

#include "base/clock.h"
#include "engine/step_plan.h"

namespace yoio {

// Measures what a prompt token costs in recent steps. Time is an argument. Engine thread only.
class StepPace {
 public:
  // No step is meant to last longer than a quarter of `step_timeout`.
  explicit StepPace(Duration step_timeout) : longest_(step_timeout / 4) {}

  // Plans are submitted and end in one order. A step's time begins when it is submitted, or when the step
  // before it has ended.
  void Submitted(const StepPlan& plan, TimePoint now);
  void Ended(TimePoint now);

  // For the next step; at least a block, and no bound before anything has been measured.
  int32_t MaxPromptTokens() const;

 private:
  struct Step {
    int32_t prompt_tokens;
    TimePoint submitted;
  };

  const Duration longest_;
  std::deque<Step> under_way_;
  TimePoint last_end_{};
  double seconds_per_token_ = 0;  // 0 before anything has been measured
};

}  // namespace yoio

#endif  // YOIO_ENGINE_STEP_PACE_H_
