// Thousands of short random lives of a scheduler with a tiny cache, each against an oracle that replays its
// plans and knows every token that must come out (scheduler_simulation.h, plan_replayer.h).
#include <algorithm>
#include <string>
#include <vector>

#include "engine/scheduler.h"
#include "gtest/gtest.h"
#include "tests/engine/scheduler_simulation.h"

namespace yoio {
namespace {

using test::Prefix;
using test::Random;
using test::Simulation;
using test::TestGroup;

constexpr int kTracesPerSeed = 100;
constexpr int kTurns = 120;

// How often the interesting things have happened.
struct Counts {
  int64_t swaps_out = 0, swaps_in = 0, recomputed = 0, cached = 0, replayed = 0, saved_rings = 0;

  void Add(const StepPlan& plan) {
    swaps_out += static_cast<int64_t>(plan.swap_out_blocks.size());
    swaps_in += static_cast<int64_t>(plan.swap_in_blocks.size());
    saved_rings += static_cast<int64_t>(plan.ring_saves.size());
    for (const StepSequence& sequence : plan.sequences) replayed += sequence.global_from > 0 ? 1 : 0;
  }
};

class Trace {
 public:
  explicit Trace(Random& random)
      : random_(random),
        window_(1 + random.Below(9)),
        options_(DrawOptions(random, window_)),
        sim_(options_, /*depth=*/1 + random.Below(3), window_) {
    for (std::vector<int32_t>& document : documents_) {
      for (int i = 0; i < 40; ++i) document.push_back(random.Below(test::kFakeVocab));
    }
    if (random.Below(2) == 0) sim_.costs = {.seconds_per_prompt_token = 1e-3, .seconds_per_step = 1e-3};
    if (random.Below(3) == 0) sim_.costs.seconds_per_swapped_block = 1e-3 * random.Below(6);
  }

  void Run(Counts& counts) {
    for (int turn = 0; turn < kTurns; ++turn) {
      if (random_.Below(4) == 0) Arrive();
      if (!sim_.groups().empty()) Disturb();
      if (random_.Below(50) == 0) sim_.scheduler().ClearCache();
      sim_.max_prompt_tokens = random_.Below(3) == 0 ? 1 + random_.Below(8) : 1000;
      sim_.Turn();
      counts.Add(sim_.plan());
      if (testing::Test::HasFailure()) return;
    }
    for (const auto& group : sim_.groups()) group->paused = false;
    while (sim_.Turn()) {
      counts.Add(sim_.plan());
      ASSERT_LT(sim_.steps(), 20000) << "no end in sight";
    }
    for (const auto& group : sim_.groups()) {
      EXPECT_TRUE(group->done()) << "starved";
      counts.recomputed += group->recomputed_tokens;
      counts.cached += group->cached_tokens;
    }
    sim_.ExpectAllReturned();
  }

 private:
  static SchedulerOptions DrawOptions(Random& random, int32_t window) {
    SchedulerOptions options{.block_tokens = 4,
                             .num_blocks = 8 + random.Below(40),
                             .max_sequences = 2 + random.Below(8),
                             .max_step_tokens = 1 + random.Below(40),
                             .max_output_rows = 1 + random.Below(12)};
    options.ageing = std::chrono::milliseconds(1 + random.Below(60));
    options.prefix_cache = random.Below(4) != 0;
    options.snapshot_interval = 4 + random.Below(20);
    if (random.Below(4) != 0) {  // the model has a window group
      options.ring_tokens = ((window + 3) / 4 + 1) * 4;
      options.replay_tokens = window * (1 + random.Below(3));
      options.num_snapshots = random.Below(5);
    }
    options.host_blocks = random.Below(3) * random.Below(20);
    options.host_rings = random.Below(4);
    return options;
  }

  // The beginning of a document, or of what somebody has got so far, and something of its own.
  std::vector<int32_t> DrawPrompt(bool& continues) {
    const std::vector<int32_t>& document = documents_[random_.Below(2)];
    std::vector<int32_t> prompt = Prefix(document, random_.Below(static_cast<int>(document.size())));
    if (!sim_.groups().empty() && random_.Below(4) == 0) {
      const TestGroup& other = *sim_.groups()[random_.Below(static_cast<int>(sim_.groups().size()))];
      prompt = other.prompt;
      prompt.insert(prompt.end(), other.outputs[0].begin(), other.outputs[0].end());
      continues = true;
    }
    const int own = 2 + random_.Below(6);
    for (int i = 0; i < own; ++i) prompt.push_back(random_.Below(test::kFakeVocab));
    return prompt;
  }

  void Arrive() {
    bool continues = false;
    std::vector<int32_t> prompt = DrawPrompt(continues);
    const int32_t max_tokens = random_.Below(8) == 0 ? 0 : 1 + random_.Below(40);
    const int32_t n = max_tokens == 0 || random_.Below(4) != 0 ? 1 : 1 + random_.Below(3);
    TestGroup* group = sim_.Add(std::move(prompt), max_tokens, n);
    group->continues_another = continues;
    for (int i = 0; i < n && max_tokens > 0; ++i) group->stop_after.push_back(1 + random_.Below(40));
    group->logprobs.prompt = max_tokens > 0 && random_.Below(8) == 0;
    group->priority = static_cast<Priority>(random_.Below(3));
    group->tenant = std::string(1, static_cast<char>('a' + random_.Below(3)));
    group->tenant_limits.weight = 1 + random_.Below(3);
    if (group->tenant == "a") group->tenant_limits.max_cache_share = 0.5;
    if (random_.Below(3) == 0) group->due = sim_.now() + std::chrono::milliseconds(random_.Below(100));
    group->cache.bypass = random_.Below(6) == 0;
    if (random_.Below(6) == 0) group->cache.salt = "salt";
    if (random_.Below(4) == 0) group->sampling.presence_penalty = 1;
    if (sim_.scheduler().CanEverRun(*group)) {
      sim_.Submit(group);
    } else {
      group->open.assign(group->n, false);
      group->retired = true;
    }
  }

  void Disturb() {
    TestGroup& any = *sim_.groups()[random_.Below(static_cast<int>(sim_.groups().size()))];
    if (random_.Below(25) == 0 && !any.done()) sim_.Cancel(&any);
    any.paused = random_.Below(4) == 0;
  }

  Random& random_;
  const int32_t window_;
  const SchedulerOptions options_;
  Simulation sim_;
  std::vector<int32_t> documents_[2];
};

class SchedulerModelTest : public testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Seed, SchedulerModelTest, testing::Range(1, 41));

TEST_P(SchedulerModelTest, EveryTokenIsRightNobodyStarvesAndOnlyTheCacheKeepsBlocks) {
  Random random(static_cast<uint64_t>(GetParam()));
  Counts counts;
  for (int trace = 0; trace < kTracesPerSeed; ++trace) {
    Trace(random).Run(counts);
    ASSERT_FALSE(HasFailure()) << "in trace " << trace;
  }
  EXPECT_GT(counts.swaps_out, 0);
  EXPECT_GT(counts.swaps_in, 0);
  EXPECT_GT(counts.recomputed, 0);
  EXPECT_GT(counts.cached, 0);
  EXPECT_GT(counts.replayed, 0);
  EXPECT_GT(counts.saved_rings, 0);
}

}  // namespace
}  // namespace yoio
