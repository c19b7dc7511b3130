#include "engine/step_pace.h"

#include <algorithm>
#include <limits>

#include "base/check.h"
#include "kernels/ops.h"

namespace yoio {
namespace {

// In steps of fewer prompt tokens these are not what takes the time.
constexpr int32_t kMeasuredTokens = kernels::kBlockTokens;
// A step that was slower than expected counts at once, a faster one by this share: others may follow it.
constexpr double kForgetting = 1.0 / 8;

}  // namespace

void StepPace::Submitted(const StepPlan& plan, TimePoint now) {
  under_way_.push_back({plan.num_prompt_tokens, now});
}

void StepPace::Ended(TimePoint now) {
  YOIO_CHECK(!under_way_.empty());
  const Step step = under_way_.front();
  under_way_.pop_front();
  const double seconds = ToSeconds(now - std::max(step.submitted, last_end_));
  last_end_ = now;
  if (step.prompt_tokens < kMeasuredTokens) return;
  const double measured = seconds / step.prompt_tokens;
  const double faster = seconds_per_token_ - measured;
  seconds_per_token_ = faster > 0 ? seconds_per_token_ - faster * kForgetting : measured;
}

int32_t StepPace::MaxPromptTokens() const {
  constexpr double kMost = std::numeric_limits<int32_t>::max();
  if (seconds_per_token_ <= 0) return static_cast<int32_t>(kMost);
  return static_cast<int32_t>(
      std::clamp(ToSeconds(longest_) / seconds_per_token_, double{kMeasuredTokens}, kMost));
}

}  // namespace yoio
