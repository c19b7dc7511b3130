// Measures where the time of a step goes, by the clock of the device that runs it.
#ifndef YOIO_ENGINE_MODEL_STEP_MARKS_H_
#define YOIO_ENGINE_MODEL_STEP_MARKS_H_

#include <array>
#include <cstdint>

#include "engine/step_times.h"
#include "kernels/backend.h"
#include "kernels/ops.h"

namespace yoio {

// Every step begins, goes from phase to phase and ends. The marks are operations of the stream like all
// others: recorded with the work around them, and so independent of what the step before has marked. Rank
// thread only.
class StepMarks {
 public:
  // What the device keeps, in ns; a step's once the stream has passed its end, until the next one begins.
  struct Times {
    int64_t last;  // the clock at the last mark
    std::array<int64_t, kNumStepPhases> phases;
    kernels::WaitClock comm;  // Communicator::MeasureWaits
  };

  // `times` is device memory. `phase` is host memory where the device notes the phase it enters, or null.
  // All outlive the marks.
  StepMarks(kernels::Backend& backend, kernels::Stream& stream, Times* times, int32_t* phase)
      : backend_(backend), stream_(stream), times_(times), phase_(phase) {}

  // Begins with kInputs.
  void Begin();
  // All that was queued since the mark before was for `left`.
  void Enter(StepPhase left, StepPhase entered);
  void End(StepPhase left);

  // What `times`, on the host, says of the phases, of their sum, and of collectives on a device.
  static StepTimes Read(const Times& times);

 private:
  void Stamp(int part, StepPhase entered, int32_t* phase);

  kernels::Backend& backend_;
  kernels::Stream& stream_;
  Times* const times_;
  int32_t* const phase_;
};

}  // namespace yoio

#endif  // YOIO_ENGINE_MODEL_STEP_MARKS_H_
