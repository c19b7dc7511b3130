// How many prompt tokens a step may take, so that nobody who generates waits long for it, and so that it ends
// long before the watchdog looks.
#ifndef YOIO_ENGINE_STEP_PACE_H_
#define YOIO_ENGINE_STEP_PACE_H_

#include <cstdint>
#include <deque>

#include "base/clock.h"
#include "engine/scheduler.h"
#include "engine/step_plan.h"

namespace yoio {

// Steps in which somebody waits for a generated token last at most `most`, or twice their time without
// prompts if that is more. With `even` they stay well below as long as few prompts wait (step_pace.cc).
struct TokenGap {
  Duration most;
  bool even;
};

// Takes a step's time for a base, that of a step without prompt tokens, and so much for each prompt token,
// and measures both in recent steps. Time is an argument. Engine thread only.
class StepPace {
 public:
  // No step is meant to last longer than a quarter of `step_timeout`.
  StepPace(Duration step_timeout, const TokenGap& gap)
      : longest_(ToSeconds(step_timeout / 4)), max_token_gap_(ToSeconds(gap.most)), even_(gap.even) {}

  // Plans are submitted and end in one order. A step's time begins when it is submitted, or when the step
  // before it has ended.
  void Submitted(const StepPlan& plan, TimePoint now);
  void Ended(TimePoint now);

  // For the next step; `decoding` says that somebody generates, `to_run` how many tokens of prompts wait or
  // are under way. At least a block, so that prompts get on, and no bound before anything has been measured.
  int32_t MaxPromptTokens(bool decoding, int64_t to_run) const;

  // 0 for what has not been measured. Nothing here knows what swapping costs.
  StepCosts costs() const { return {.seconds_per_prompt_token = average_, .seconds_per_step = base_}; }
  // Enough steps with prompt tokens have been measured to say when a prompt will be done.
  bool can_predict() const;

 private:
  struct Step {
    int32_t prompt_tokens;
    bool measured;
    TimePoint submitted;
  };

  void Measure(int32_t prompt_tokens, double seconds);
  double PromptSeconds(int64_t to_run) const;

  const double longest_;
  const double max_token_gap_;
  const bool even_;
  std::deque<Step> under_way_;
  TimePoint last_end_{};
  // All in seconds; 0 before anything has been measured.
  double base_ = 0;
  double average_ = 0;   // of a prompt token: each step counts by its tokens, and less with every later one
  double cautious_ = 0;  // of a prompt token, the base included; rises at once and falls slowly
  double seconds_ = 0, tokens_ = 0;  // what `average_` is made of
  int64_t measured_steps_ = 0;       // with prompt tokens
};

}  // namespace yoio

#endif  // YOIO_ENGINE_STEP_PACE_H_
