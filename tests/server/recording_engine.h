// A scripted engine with a flight recorder, and what it has to say about itself.
#ifndef YOIO_TESTS_SERVER_RECORDING_ENGINE_H_
#define YOIO_TESTS_SERVER_RECORDING_ENGINE_H_

#include <string>
#include <vector>

#include "tests/server/scripted_engine.h"

namespace yoio {

class RecordingEngine : public ScriptedEngine {
 public:
  static constexpr int kRanks = 2;

  FlightRecorder* recorder() const override { return &recorder_; }
  std::vector<RankState> ranks() const override {
    return {{.rank = 0,
             .ended_step = 6,
             .step = 7,
             .phase = StepPhase::kCrossDecoder,
             .collective = Collective::kAllReduce},
            {.rank = 1, .ended_step = 6}};
  }
  absl::StatusOr<EngineState> DumpState(int32_t, TimePoint) override { return state; }

  // A request that is in no step yet.
  RequestNumber Accept(const std::string& id, TimePoint arrival = Clock::now()) {
    return recorder_.Accepted(id, "tenant-a", {}, arrival);
  }
  void End(RequestNumber request, Duration total, TimePoint now = Clock::now()) {
    recorder_.Ended(request, absl::OkStatus(), {.usage = {.prompt_tokens = 3}, .timing = {.total = total}},
                    now);
  }
  // A step of 2 ms, of which each rank works 1 ms, that has ended.
  void RunStep(int64_t step, std::vector<StepMember> members) {
    PlanStep(step, std::move(members));
    StepTimes times{.total = std::chrono::milliseconds(1)};
    times.phases[static_cast<int>(StepPhase::kSelfDecoder)] = std::chrono::microseconds(600);
    times.phases[static_cast<int>(StepPhase::kSampling)] = std::chrono::microseconds(400);
    times.comm_wait = std::chrono::microseconds(200);
    for (int rank = 0; rank < kRanks; ++rank) recorder_.RankEnded(rank, step, times);
    recorder_.Delivered(step, BeginOf(step) + std::chrono::milliseconds(2));
  }
  void PlanStep(int64_t step, std::vector<StepMember> members) {
    StepFacts facts{.step = step,
                    .begin = BeginOf(step),
                    .submitted = BeginOf(step) + std::chrono::microseconds(100),
                    .requests = static_cast<int32_t>(members.size()),
                    .running = 1,
                    .waiting = 4,
                    .free_blocks = 9};
    for (const StepMember& member : members) facts.prompt_tokens += member.tokens;
    recorder_.Planned(facts, members);
  }
  TimePoint BeginOf(int64_t step) const { return origin_ + step * std::chrono::milliseconds(3); }

  absl::StatusOr<EngineState> state = EngineState{};

 private:
  const TimePoint origin_ = Clock::now();
  mutable FlightRecorder recorder_{kRanks};
};

}  // namespace yoio

#endif  // YOIO_TESTS_SERVER_RECORDING_ENGINE_H_
