#include "engine/model/step_marks.h"

namespace yoio {
namespace {

// Of StampArgs::times, which Times is: 0 is the beginning. It sets what is behind the phases to zero too.
int PartOf(StepPhase phase) { return 1 + static_cast<int>(phase); }
constexpr int kNumParts = sizeof(StepMarks::Times) / sizeof(int64_t) - 1;
static_assert(kNumParts == kNumStepPhases + 2);

}  // namespace

void StepMarks::Begin() { Stamp(0, StepPhase::kInputs, phase_); }

void StepMarks::Enter(StepPhase left, StepPhase entered) { Stamp(PartOf(left), entered, phase_); }

void StepMarks::End(StepPhase left) { Stamp(PartOf(left), left, nullptr); }

void StepMarks::Stamp(int part, StepPhase entered, int32_t* phase) {
  backend_.Stamp({.times = &times_->last,
                  .part = part,
                  .num_parts = kNumParts,
                  .progress = phase,
                  .value = static_cast<int32_t>(entered)},
                 stream_);
}

StepTimes StepMarks::Read(const Times& times) {
  StepTimes read;
  for (int phase = 0; phase < kNumStepPhases; ++phase) {
    read.phases[phase] = std::chrono::nanoseconds(times.phases[phase]);
    read.total += read.phases[phase];
  }
  read.comm_wait = std::chrono::nanoseconds(times.comm.waited);
  return read;
}

}  // namespace yoio
