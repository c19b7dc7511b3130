// Whole steps of a model, with dummy weights and a cache full of noise: what step_bench times and idle_bench
// traces.
#ifndef YOIO_BENCH_STEP_RUNNER_H_
#define YOIO_BENCH_STEP_RUNNER_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "bench/lab.h"
#include "bench/rank_labs.h"
#include "bench/step_rank.h"
#include "engine/checkpoint/config.h"
#include "engine/step_plan.h"
#include "tests/support/random.h"

namespace yoio::bench {

// What is measured on one kind of device.
struct Scale {
  std::vector<int> contexts;
  std::vector<int> batches;
  int chunk;         // prompt tokens a step
  int prompt_begin;  // the prompt tokens of [begin, end) are timed
  int prompt_end;

  static Scale Of(const Lab& lab);
};

class StepRunner {
 public:
  static constexpr int kDepth = 16;  // steps queued before one is waited for

  // As many ranks as there are labs, which outlive the runner; `marked` as in StepShape. INVALID_ARGUMENT
  // when the model cannot be cut into so many; RESOURCE_EXHAUSTED when it does not fit. Takes the memory,
  // fills and records.
  static absl::StatusOr<std::unique_ptr<StepRunner>> Create(RankLabs& labs, const ModelConfig& config,
                                                            const Scale& scale, bool index_by_rows,
                                                            bool marked = true);
  ~StepRunner();
  StepRunner(const StepRunner&) = delete;
  StepRunner& operator=(const StepRunner&) = delete;

  // Sets the step that is measured next, and runs one like it that gives the sequences their slots and
  // blocks: `batch` sequences generate their token at position `context` - 1, or one takes the prompt tokens
  // [begin, begin + count), none of them with logits.
  void StartDecode(int context, int batch);
  void StartPrompt(int begin, int count);
  // Seconds of one such step, the median of several samples.
  double StepSeconds();
  // One sample: `steps` of them are queued, at most kDepth, and waited for.
  double StepSeconds(int steps);

  // Where the time of the last step went on the busiest rank. Only with marks.
  StepTimes Times() { return ranks_[0]->Times(); }

  // Seconds in which the prompt tokens [begin, end) of one sequence are taken, the last of them with logits.
  double PrefillSeconds(int begin, int end, int chunk);

  // The rank with the most to do: nobody else may hold index keys, and nobody indexes more rows.
  const StepRank& busiest() const { return *ranks_[0]; }

 private:
  StepRunner(RankLabs& labs, StepShape shape);

  void Start(const StepPlan& first, StepPlan step);
  void Admit(StepPlan& plan, int slot, int tokens);
  void ShuffleBlocks();
  StepPlan DecodePlan(int context, int batch, bool first);
  StepPlan PromptPlan(int start, int count, bool first, bool last);

  RankLabs& labs_;
  const StepShape shape_;
  std::vector<std::unique_ptr<StepRank>> ranks_;
  test::Random random_{1};
  std::vector<int32_t> blocks_;
  size_t next_block_ = 0;
  StepPlan step_;  // what StepSeconds repeats
};

}  // namespace yoio::bench

#endif  // YOIO_BENCH_STEP_RUNNER_H_
