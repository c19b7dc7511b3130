// Where the time of a step goes.
#ifndef YOIO_ENGINE_STEP_TIMES_H_
#define YOIO_ENGINE_STEP_TIMES_H_

#include <array>
#include <cstdint>
#include <string_view>

#include "base/clock.h"

namespace yoio {

// What a rank does in a step, in this order. A plan whose layers index one by one comes back to an earlier
// phase; its time there adds up.
enum class StepPhase : uint8_t {
  kInputs,          // the plan goes to the device; blocks are copied and swapped
  kSelfDecoder,     // layers that run all tokens
  kIndexScores,     // rank 0, or every rank for its rows: index queries against the cached keys
  kTopK,            // the best of them
  kIndexBroadcast,  // until the slots have come from who selected them; on other ranks the wait for that too
  kCrossDecoder,    // layers that run output rows
  kSampling,        // logits and sampler
};
inline constexpr int kNumStepPhases = 7;

// "self_decoder": as in metrics, spans and traces.
constexpr std::string_view NameOf(StepPhase phase) {
  constexpr std::array<std::string_view, kNumStepPhases> kNames = {
      "inputs", "self_decoder", "index_scores", "top_k", "index_broadcast", "cross_decoder", "sampling"};
  return kNames[static_cast<size_t>(phase)];
}

// Of one step on one rank, by that rank's own clock: the device's, where it has one.
struct StepTimes {
  Duration total{};                               // from its first work to its last
  std::array<Duration, kNumStepPhases> phases{};  // their sum is `total`
  Duration comm_wait{};                           // of them, spent in collectives
  bool recorded = false;                          // ran as recorded work (CUDA graphs) as far as it can
};

// What a rank waits for other ranks with.
enum class Collective : uint8_t { kNone, kBroadcast, kAllReduce, kAllGather };

constexpr std::string_view NameOf(Collective collective) {
  constexpr std::array<std::string_view, 4> kNames = {"none", "broadcast", "all_reduce", "all_gather"};
  return kNames[static_cast<size_t>(collective)];
}

// What a rank was seen doing: also of one that hangs.
struct RankState {
  int rank = 0;
  int64_t ended_step = -1;  // its last step that has ended; -1 before the first
  int64_t step = -1;        // the one that it has begun last, of a rank of this process; -1 before the first
  StepPhase phase{};        // in that step, of a rank of this process
  Collective collective{};  // it is in now, likewise
};

}  // namespace yoio

#endif  // YOIO_ENGINE_STEP_TIMES_H_
