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
// written, a window that is not in its ring.
class PlanReplayer {
 public:
  // Rings hold `window` tokens rounded up to whole blocks, and one block more.
  PlanReplayer(const SchedulerOptions& options, int32_t window);

  StepResult Run(const StepPlan& plan);

  int64_t steps() const { return next_step_; }
  // Tokens of `plan` by slot, for tests that look at the policy.
  static std::map<int32_t, int32_t> TokensBySlot(const StepPlan& plan);

 private:
  struct Cell {
    int32_t position = -1;
    int32_t id = -1;
  };

  void CheckShape(const StepPlan& plan) const;
  void ReleaseAndAdmit(const StepPlan& plan);
  void Copy(const StepPlan& plan);
  void ExtendTable(const StepSequence& sequence, const StepPlan& plan);
  void Write(int32_t slot, int32_t position, int32_t id);
  std::vector<int32_t> Context(int32_t slot, int32_t position) const;

  Cell& BlockCell(int32_t block, int32_t offset) { return cache_[block * options_.block_tokens + offset]; }
  const Cell& BlockCell(int32_t block, int32_t offset) const {
    return cache_[block * options_.block_tokens + offset];
  }

  const SchedulerOptions options_;
  const int32_t window_;
  const int32_t ring_tokens_;
  int64_t next_step_ = 0;
  std::vector<Cell> cache_;                   // [blocks, block_tokens]
  std::vector<int32_t> holders_;              // [blocks] tables that hold it
  std::vector<std::vector<Cell>> rings_;      // [slots, ring_tokens]
  std::vector<std::vector<int32_t>> tables_;  // [slots]
  std::vector<bool> admitted_;                // [slots]
  std::vector<int32_t> previous_samples_;
};

}  // namespace yoio::test

#endif  // YOIO_TESTS_ENGINE_PLAN_REPLAYER_H_
