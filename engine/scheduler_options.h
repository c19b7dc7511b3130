// What the scheduler may hand out, and what steps cost.
#ifndef YOIO_ENGINE_SCHEDULER_OPTIONS_H_
#define YOIO_ENGINE_SCHEDULER_OPTIONS_H_

#include <cstdint>
#include <limits>

#include "base/clock.h"

namespace yoio {

// Generated tokens of one sequence that one step computes again, so that no other waits long beside it.
inline constexpr int32_t kMaxCaughtUpTokens = 32;
// Generated rows of one step up to which tokens are computed again beside the next one of each sequence: on a
// GPU more rows in one step would change the bits of all of them (invariant I5).
inline constexpr int32_t kMaxCaughtUpRows = 64;

struct SchedulerOptions {
  int32_t block_tokens = 64;
  int32_t num_blocks = 0;     // of the global group
  int32_t max_sequences = 0;  // slots, hence rings
  int32_t max_step_tokens = 0;
  int32_t max_output_rows = 0;

  bool prefix_cache = false;
  int32_t num_snapshots = 0;         // rings for it, ids from max_sequences on
  int32_t ring_tokens = 0;           // of one ring; 0: the model has no window group
  int32_t replay_tokens = 0;         // so many tokens replayed before a position make its ring exact
  int32_t snapshot_interval = 8192;  // prefilled tokens between snapshots
  int32_t host_blocks = 0;           // room for preempted sequences in the host's memory
  int32_t host_rings = 0;
  Duration ageing = std::chrono::seconds(10);  // a request that waits so long rises one class
};

// What recent steps have cost, for choosing between ways; 0 while nothing is known.
struct StepCosts {
  double seconds_per_prompt_token = 0;
  double seconds_per_step = 0;  // of a step without prompt tokens
  double seconds_per_swapped_block = 0;
};

// What one step may take.
struct StepAllowance {
  int32_t max_prompt_tokens = std::numeric_limits<int32_t>::max();  // >= 1; generated tokens are not bound
  StepCosts costs;
};

}  // namespace yoio

#endif  // YOIO_ENGINE_SCHEDULER_OPTIONS_H_
