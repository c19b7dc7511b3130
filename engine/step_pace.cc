#include "engine/step_pace.h"

#include <algorithm>
#include <limits>

#include "base/check.h"
#include "kernels/ops.h"

namespace yoio {
namespace {

constexpr double kMost = std::numeric_limits<int32_t>::max();
// In steps of fewer prompt tokens these are not what takes the time.
constexpr int32_t kMeasuredTokens = kernels::kBlockTokens;
// By how much a step counts less with every later one.
constexpr double kForgetting = 1.0 / 8;
// A base that was measured in other company may be most of a step's time, but not all of it.
constexpr double kLeastPromptShare = 0.1;
constexpr int64_t kStepsToPredict = 16;

// What prompts get of a step in which others generate, if tokens are to come evenly: a long step between
// short ones is a gap that everybody sees. So prompts get as much time as the rest of the step, and up to
// kMostOfBase times as much when what is to run would otherwise take longer than kHorizon seconds. When it
// takes longer than kDeepQueue seconds anyway, every step has prompts, and throughput counts: they fill the
// gap.
constexpr double kHorizon = 1;
constexpr double kDeepQueue = 4;
constexpr double kMostOfBase = 1.5;
// Of the gap: chunks that take less time than this would be too short to be efficient.
constexpr double kLeastOfGap = 0.1;

// The tokens that fit `seconds` at `cost` seconds each.
int32_t Fitting(double seconds, double cost) {
  if (cost <= 0) return static_cast<int32_t>(kMost);
  return static_cast<int32_t>(std::clamp(seconds / cost, double{kMeasuredTokens}, kMost));
}

}  // namespace

void StepPace::Submitted(const StepPlan& plan, TimePoint now) {
  // What is fetched from the host's memory or put there has a cost of its own.
  const bool swaps = !plan.swap_in_blocks.empty() || !plan.swap_out_blocks.empty();
  const bool measured = !swaps && (plan.num_prompt_tokens == 0 || plan.num_prompt_tokens >= kMeasuredTokens);
  under_way_.push_back({plan.num_prompt_tokens, measured, now});
}

void StepPace::Ended(TimePoint now) {
  YOIO_CHECK(!under_way_.empty());
  const Step step = under_way_.front();
  under_way_.pop_front();
  const double seconds = ToSeconds(now - std::max(step.submitted, last_end_));
  last_end_ = now;
  if (step.measured) Measure(step.prompt_tokens, seconds);
}

void StepPace::Measure(int32_t prompt_tokens, double seconds) {
  if (prompt_tokens == 0) {
    base_ = base_ == 0 ? seconds : base_ + (seconds - base_) * kForgetting;
    return;
  }
  const double whole = seconds / prompt_tokens;
  cautious_ = whole < cautious_ ? cautious_ - (cautious_ - whole) * kForgetting : whole;
  seconds_ += std::max(seconds - base_, seconds * kLeastPromptShare) - seconds_ * kForgetting;
  tokens_ += prompt_tokens - tokens_ * kForgetting;
  average_ = seconds_ / tokens_;
  ++measured_steps_;
}

int32_t StepPace::MaxPromptTokens(bool decoding, int64_t to_run) const {
  if (measured_steps_ == 0) return static_cast<int32_t>(kMost);
  const int32_t most = Fitting(longest_, cautious_);
  return decoding ? std::min(most, Fitting(PromptSeconds(to_run), average_)) : most;
}

double StepPace::PromptSeconds(int64_t to_run) const {
  const double most = std::max(max_token_gap_ - base_, base_);
  const double work = static_cast<double>(to_run) * average_;
  if (!even_ || work >= kDeepQueue) return most;
  const double share = std::min(work / kHorizon, 0.99);  // of all time, for the work to be done by then
  const double even = base_ * std::clamp(share / (1 - share), 1.0, kMostOfBase);
  return std::min(std::max(even, max_token_gap_ * kLeastOfGap), most);
}

bool StepPace::can_predict() const { return measured_steps_ >= kStepsToPredict; }

}  // namespace yoio
