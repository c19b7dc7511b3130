// A scheduler driven as the engine drives it, over a fake executor that checks every plan, by requests that
// know what they must get.
#ifndef YOIO_TESTS_ENGINE_SCHEDULER_SIMULATION_H_
#define YOIO_TESTS_ENGINE_SCHEDULER_SIMULATION_H_

#include <algorithm>
#include <deque>
#include <memory>
#include <utility>
#include <vector>

#include "engine/scheduler.h"
#include "gtest/gtest.h"
#include "tests/engine/plan_replayer.h"
#include "tests/support/random.h"

namespace yoio::test {

// A request that knows what it must get.
struct TestGroup : SequenceGroup {
  std::vector<int32_t> stop_after;            // [n] tokens after which a choice ends; empty: max_tokens
  std::vector<std::vector<int32_t>> outputs;  // [n]
  std::vector<float> scores;
  std::vector<bool> open;          // [n]
  bool continues_another = false;  // its prompt may hit what another one generated
  bool retired = false;

  int32_t length(int32_t choice) const {
    return stop_after.empty() ? max_tokens : std::min(max_tokens, stop_after[choice]);
  }
  bool done() const {
    return std::none_of(open.begin(), open.end(), [](bool choice) { return choice; });
  }
};

inline std::vector<int32_t> Prefix(const std::vector<int32_t>& ids, size_t count) {
  return {ids.begin(), ids.begin() + static_cast<int64_t>(count)};
}

// Scheduler and replayer, with `depth` steps in flight, driven as the engine drives them.
class Simulation {
 public:
  explicit Simulation(const SchedulerOptions& options, int depth = 1, int32_t window = 100)
      : options_(options), depth_(depth), scheduler_(options), replayer_(options, window) {}

  TestGroup* Add(int32_t prompt_tokens, int32_t max_tokens, int32_t n = 1) {
    std::vector<int32_t> prompt;
    for (int32_t i = 0; i < prompt_tokens; ++i) prompt.push_back(random_.Below(kFakeVocab));
    return Add(std::move(prompt), max_tokens, n);
  }

  TestGroup* Add(std::vector<int32_t> prompt, int32_t max_tokens, int32_t n = 1) {
    auto group = std::make_unique<TestGroup>();
    group->prompt = std::move(prompt);
    group->arrival = now_;
    group->max_tokens = max_tokens;
    group->n = n;
    group->outputs.resize(n);
    group->open.assign(n, true);
    groups_.push_back(std::move(group));
    return groups_.back().get();
  }

  TestGroup* Submit(TestGroup* group) {
    group->score_only = group->max_tokens == 0;
    group->logprobs.prompt |= group->score_only;
    scheduler_.Add(group);
    return group;
  }

  // One turn of the engine's loop. False when there was nothing to do.
  bool Turn() {
    plan_ = scheduler_.Next(now_ += std::chrono::milliseconds(1),
                            {.max_prompt_tokens = max_prompt_tokens, .costs = costs});
    EXPECT_LE(plan_.num_prompt_tokens, max_prompt_tokens);
    const bool idle = plan_.empty();
    if (!idle) results_.push_back(replayer_.Run(plan_));
    if (static_cast<int>(results_.size()) == depth_ || (idle && !results_.empty())) {
      Deliver();
      return true;
    }
    return !idle;
  }

  void TurnTimes(int turns) {
    for (int i = 0; i < turns; ++i) Turn();
  }

  void RunUntilIdle() {
    for (int turns = 0; Turn(); ++turns) ASSERT_LT(turns, 100000) << "no end in sight";
  }

  // Everything has ended, and every slot and block has come back; the prefix cache may keep some.
  void ExpectAllReturned() {
    EXPECT_EQ(scheduler_.free_blocks(), options_.num_blocks);
    EXPECT_EQ(scheduler_.free_slots(), options_.max_sequences);
    EXPECT_EQ(scheduler_.num_running(), 0);
    EXPECT_EQ(scheduler_.num_waiting(), 0);
    EXPECT_EQ(scheduler_.waiting_tokens(), 0);
    for (const auto& group : groups_) EXPECT_TRUE(group->retired);
    scheduler_.ClearCache();
    EXPECT_EQ(scheduler_.cached_blocks(), 0);
    EXPECT_EQ(scheduler_.free_blocks(), options_.num_blocks);
  }

  void Cancel(TestGroup* group) {
    group->open.assign(group->n, false);
    scheduler_.EndAll(group);
    Retire();
  }

  Scheduler& scheduler() { return scheduler_; }
  const StepPlan& plan() const { return plan_; }
  const std::vector<std::unique_ptr<TestGroup>>& groups() const { return groups_; }
  Random& random() { return random_; }
  TimePoint now() const { return now_; }
  int64_t steps() const { return replayer_.steps(); }

  int32_t max_prompt_tokens = std::numeric_limits<int32_t>::max();  // of the next turns
  StepCosts costs;

 private:
  void Deliver() {
    StepResult result = std::move(results_.front());
    results_.pop_front();
    Scheduler::Delivery delivery = scheduler_.Deliver(result);
    for (const Scheduler::Scores& scores : delivery.scores) TakeScores(scores);
    for (const Scheduler::Sample& sample : delivery.samples) TakeSample(sample);
    Retire();
  }

  void TakeSample(const Scheduler::Sample& sample) {
    TestGroup& group = static_cast<TestGroup&>(*sample.group);
    ASSERT_TRUE(group.open[sample.choice]) << "a token after the end";
    std::vector<int32_t>& output = group.outputs[sample.choice];
    std::vector<int32_t> context = group.prompt;
    context.insert(context.end(), output.begin(), output.end());
    ASSERT_EQ(sample.token->record.id, FakeToken(context, sample.choice))
        << "choice " << sample.choice << " after " << output.size() << " tokens";
    if (!group.continues_another) {
      ASSERT_EQ(sample.token->record.top[0].id, static_cast<int32_t>(group.prompt.size()))
          << "given tokens are computed as such, generated ones as such";
    }
    output.push_back(sample.token->record.id);
    if (static_cast<int32_t>(output.size()) < group.length(sample.choice)) return;
    group.open[sample.choice] = false;
    if (group.done()) {
      scheduler_.EndAll(&group);
    } else {
      scheduler_.End(&group, sample.choice);
    }
  }

  void TakeScores(const Scheduler::Scores& scores) {
    TestGroup& group = static_cast<TestGroup&>(*scores.group);
    ASSERT_EQ(scores.first_position, static_cast<int32_t>(group.scores.size()) + 1) << "in order, no gap";
    for (const TokenRecord& record : scores.tokens) {
      const size_t position = group.scores.size() + 1;
      EXPECT_EQ(record.id, group.prompt[position]);
      EXPECT_EQ(record.logprob, FakeLogprob(Prefix(group.prompt, position)));
      group.scores.push_back(record.logprob);
    }
    if (group.score_only && group.scores.size() + 1 == group.prompt.size()) Cancel(&group);
  }

  void Retire() {
    for (SequenceGroup* retired : scheduler_.TakeRetired()) {
      TestGroup& group = static_cast<TestGroup&>(*retired);
      EXPECT_TRUE(group.done());
      EXPECT_FALSE(std::exchange(group.retired, true)) << "retired twice";
    }
  }

  const SchedulerOptions options_;
  const int depth_;
  Random random_{1};
  Scheduler scheduler_;
  std::vector<std::unique_ptr<TestGroup>> groups_;  // die before the scheduler, as their blocks must
  PlanReplayer replayer_;
  std::deque<StepResult> results_;
  StepPlan plan_;
  TimePoint now_{};
};

}  // namespace yoio::test

#endif  // YOIO_TESTS_ENGINE_SCHEDULER_SIMULATION_H_
