// Runs step plans as a rank would, on a cache that stores token ids in place of keys and values.
#ifndef YOIO_TESTS_ENGINE_PLAN_REPLAYER_H_
#define YOIO_TESTS_ENGINE_PLAN_REPLAYER_H_

#include <cstdint>
#include <map>
#include <vector>

#include "engine/scheduler.h"
#include "engine/step_plan.h"

namespace yoio::test {

inline constexpr int32_t kFakeVocab = 1000;

// What the fake model "computes" for a row: a number that depends on every token of its context, and on
// their order.
uint64_t ContextHash(const std::vector<int32_t>& context);

// The token that choice `sample_index` draws after `context`.
int32_t FakeToken(const std::vector<int32_t>& context, int32_t sample_index);

// The log-probability of whatever follows `context`.
float FakeLogprob(const std::vector<int32_t>& context);

// Executes plans one after the other and fails the running test where a plan breaks a rule: steps without
// gaps, budgets, layout of the plan, tables, a write to a block with two holders, a read of something never
// written, a window that is not in its ring or was not replayed far enough, a copy of nothing.
class PlanReplayer {
 public:
  // Each window layer sees `window` tokens; there are as many as options.replay_tokens has windows.
  PlanReplayer(const SchedulerOptions& options, int32_t window);

  // Each sample has one alternative, whose id is the position of its context's first generated token.
  StepResult Run(const StepPlan& plan);

  int64_t steps() const { return next_step_; }
  // Tokens of `plan` by slot, for tests that look at the policy.
  static std::map<int32_t, int32_t> TokensBySlot(const StepPlan& plan);

 private:
  struct Cell {
    int32_t position = -1;
    int32_t id = -1;
    bool generated = false;  // computed as a generated token
    int32_t layers = 0;      // in a ring: how many of the window layers have seen all that they should
  };
  using Cells = std::vector<Cell>;

  void CheckShape(const StepPlan& plan) const;
  void ReleaseAndAdmit(const StepPlan& plan);
  void CopyOut(const StepPlan& plan);
  void CopyIn(const StepPlan& plan);
  void ExtendTable(const StepSequence& sequence, const StepPlan& plan);
  void Write(const StepSequence& sequence, int32_t position, int32_t id, bool generated);
  void WriteRing(const StepSequence& sequence, const Cell& written);
  Cells Context(int32_t slot, int32_t position) const;
  static std::vector<int32_t> IdsOf(const Cells& cells);

  const SchedulerOptions options_;
  const int32_t window_;
  const int32_t layers_;  // with a window
  int64_t next_step_ = 0;
  std::vector<Cells> blocks_;                 // [blocks, block_tokens]
  std::vector<int32_t> holders_;              // [blocks] tables that hold it
  std::vector<Cells> rings_;                  // [slots, then snapshots, ring_tokens]
  std::vector<Cells> host_blocks_;            // [host blocks, block_tokens]
  std::vector<Cells> host_rings_;             // [host rings, ring_tokens]
  std::vector<std::vector<int32_t>> tables_;  // [slots]
  std::vector<bool> admitted_;                // [slots]
  std::vector<int32_t> previous_samples_;
};

}  // namespace yoio::test

#endif  // YOIO_TESTS_ENGINE_PLAN_REPLAYER_H_
