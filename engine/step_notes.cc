#include "engine/step_notes.h"

#include <utility>

#include "engine/live_request.h"

namespace yoio {
namespace {

constexpr int64_t kSchedulerTimedEvery = 16;  // steps

}  // namespace

void StepNotes::Planned(const StepPlan& plan, const Scheduler& scheduler, TimePoint begin) {
  members_.clear();
  for (const Scheduler::Part& part : scheduler.parts()) {
    LiveRequest& live = static_cast<LiveRequest&>(*part.group);
    if (std::exchange(live.noted_step, plan.step) != plan.step) {
      live.noted_member = members_.size();
      members_.push_back({live.number, 0});
    }
    members_[live.noted_member].tokens += part.tokens;
  }
  const int32_t tokens = static_cast<int32_t>(plan.token_ids.size());
  const TimePoint now = Clock::now();
  planning_ += now - begin;
  NoteSchedulerTime();
  recorder_.Planned({.step = plan.step,
                     .begin = begin,
                     .submitted = now,
                     .prompt_tokens = plan.num_prompt_tokens,
                     .generated_tokens = tokens - plan.num_prompt_tokens,
                     .output_rows = static_cast<int32_t>(plan.output_tokens.size()),
                     .requests = static_cast<int32_t>(members_.size()),
                     .running = scheduler.num_running(),
                     .waiting = scheduler.num_waiting(),
                     .free_blocks = scheduler.free_blocks()},
                    members_);
}

void StepNotes::Delivered(int64_t step, TimePoint now) {
  const Duration took = recorder_.Delivered(step, now);
  const Duration planning = std::exchange(planning_, {}) + (Clock::now() - now);
  NoteSchedulerTime();
  MutexLock lock(mutex_);
  stats_.step.Add(took);
  stats_.plan.Add(planning);
  if (times_scheduler_) scheduler_times_.Add(std::exchange(scheduler_time_, {}));
  times_scheduler_ = ++delivered_ % kSchedulerTimedEvery == 0;
}

void StepNotes::NoteSchedulerTime() {
  if (times_scheduler_) scheduler_time_ += ThreadTime() - scheduler_began_;
}

void StepNotes::Publish() {
  MutexLock lock(mutex_);
  stats_.inter_token = inter_token_;
}

void StepNotes::RankEnded(int rank, int64_t step, const StepTimes& times) {
  recorder_.RankEnded(rank, step, times);
  if (rank != 0) return;
  MutexLock lock(mutex_);
  for (int phase = 0; phase < kNumStepPhases; ++phase) stats_.phases[phase].Add(times.phases[phase]);
  stats_.comm_wait.Add(times.comm_wait);
}

EngineStats StepNotes::stats() const {
  MutexLock lock(mutex_);
  return stats_;
}

double StepNotes::scheduler_seconds_p99() const {
  MutexLock lock(mutex_);
  return ToSeconds(scheduler_times_.Quantile(0.99));
}

}  // namespace yoio
