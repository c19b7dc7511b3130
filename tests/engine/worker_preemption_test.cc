// What a preempted sequence draws once it goes on: penalties know all that it has said before.
#include <algorithm>
#include <memory>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "base/check.h"
#include "engine/checkpoint/config.h"
#include "engine/checkpoint/safetensors.h"
#include "engine/worker_group.h"
#include "gtest/gtest.h"
#include "tests/engine/engine_harness.h"

namespace yoio {
namespace {

constexpr int kSlots = 3, kBlocksPerSlot = 4, kPrompt = 70, kDrawn = 60, kPreemptedAt = 30;

std::vector<int32_t> Prompt() {
  std::vector<int32_t> ids(kPrompt);
  for (int i = 0; i < kPrompt; ++i) ids[i] = (i * i + 5) % 256;
  return ids;
}

SamplingParams Penalties() {
  SamplingParams sampling;
  sampling.temperature = 0.6f;
  sampling.repetition_penalty = 1.4f;
  sampling.frequency_penalty = 0.7f;
  sampling.presence_penalty = 0.9f;
  sampling.seed = 11;
  return sampling;
}

// The ranks of one process on the CPU, with room for sequences on the host.
class WorkerPreemptionTest : public testing::TestWithParam<int> {
 protected:
  void SetUp() override {
    const std::string dir = YOIO_SOURCE_DIR "/tests/golden/micro";
    config_ = *ReadModelConfig(dir, "");
    checkpoint_ = *Checkpoint::Open(dir);
    cpu_ = *kernels::MakeBackend(kernels::DeviceKind::kCpu, 0);
    WorkerGroupOptions options;
    options.worker.config = &config_;
    options.worker.checkpoint = checkpoint_.get();
    options.worker.sizing.limits = {.max_step_tokens = 128, .max_output_rows = 4, .depth = 1};
    options.worker.sizing.cache = {.num_blocks = kSlots * kBlocksPerSlot,
                                   .max_sequences = kSlots,
                                   .host_blocks = kBlocksPerSlot,
                                   .host_rings = 1,
                                   .max_blocks_per_sequence = kBlocksPerSlot,
                                   .ring_tokens = CacheGeometry::RingTokens(config_.plan)};
    options.group = {.kind = CommunicatorKind::kLocal, .world = GetParam(), .num_ranks = GetParam()};
    options.backends.assign(GetParam(), cpu_.get());
    options.step_timeout = std::chrono::minutes(1);
    workers_ = std::make_unique<WorkerGroup>(options);
    const absl::Status started = workers_->Start(TimePoint::max());
    ASSERT_TRUE(started.ok()) << started;
  }

  // The slot's next life, which has drawn `output` before.
  void Admit(int32_t slot, std::vector<int32_t> output) {
    plan_.admitted.push_back({.slot = slot,
                              .sampling = Penalties(),
                              .stop_ids = {},
                              .prompt_ids = Prompt(),
                              .output_ids = std::move(output)});
    blocks_given_[slot] = 0;
  }

  void Release(int32_t slot) { plan_.released_slots.push_back(slot); }

  // Tokens of one sequence are the next step, which draws a token behind them when `output_position` is one.
  // Returns it.
  TokenRecord Run(int32_t slot, int start, const std::vector<int32_t>& ids, bool generated,
                  int output_position) {
    StepPlan plan = std::exchange(plan_, {});
    plan.step = step_++;
    const auto count = static_cast<int32_t>(ids.size());
    const int needed = (start + count + kernels::kBlockTokens - 1) / kernels::kBlockTokens;
    int& given = blocks_given_[slot];
    plan.sequences = {{.slot = slot,
                       .token_begin = 0,
                       .token_count = count,
                       .start_position = start,
                       .new_block_begin = 0,
                       .new_block_count = needed - given}};
    for (; given < needed; ++given) plan.new_blocks.push_back(slot * kBlocksPerSlot + given);
    plan.token_ids = ids;
    plan.positions.resize(ids.size());
    std::iota(plan.positions.begin(), plan.positions.end(), start);
    plan.num_prompt_tokens = generated ? 0 : count;
    if (output_position >= 0) {
      plan.output_tokens = {count - 1};
      plan.samples = {{.output_row = 0,
                       .slot = slot,
                       .sample_index = 0,
                       .output_position = output_position,
                       .logprob = true,
                       .top_n = 3}};
    }
    workers_->Submit(std::make_shared<const StepPlan>(std::move(plan)));
    auto result = workers_->Wait();
    YOIO_CHECK(result.ok()) << result.status().ToString();
    return result->samples.empty() ? TokenRecord{} : std::move(result->samples[0].record);
  }

  // Draws until the sequence has said `count` tokens, of which `records` are the first; the last of them is
  // in nobody's cache yet.
  void Draw(int32_t slot, int count, std::vector<TokenRecord>& records) {
    if (records.empty()) records.push_back(Run(slot, 0, Prompt(), /*generated=*/false, 0));
    for (auto drawn = static_cast<int>(records.size()); drawn < count; ++drawn) {
      records.push_back(Run(slot, kPrompt + drawn - 1, {records.back().id}, /*generated=*/true, drawn));
    }
  }

  std::vector<TokenRecord> Undisturbed() {
    std::vector<TokenRecord> records;
    Admit(0, {});
    Draw(0, kDrawn, records);
    Release(0);
    return records;
  }

  static std::vector<int32_t> Ids(const std::vector<TokenRecord>& records) {
    std::vector<int32_t> ids;
    for (const TokenRecord& record : records) ids.push_back(record.id);
    return ids;
  }

  // Another sequence has the slot meanwhile.
  void RunAnother(int32_t slot) {
    Admit(slot, {});
    for (int i = 0; i < 5; ++i) Run(slot, 2 * i, {3 + i, 200 - i}, /*generated=*/false, i);
    Release(slot);
  }

  void SwapOut(int32_t slot, const std::vector<TokenRecord>& records) {
    const int cached = kPrompt + static_cast<int>(records.size()) - 1;
    for (int i = 0; i * kernels::kBlockTokens < cached; ++i) {
      plan_.swap_out_blocks.push_back({slot * kBlocksPerSlot + i, kBlocksPerSlot - 1 - i});
    }
    plan_.swap_out_rings.push_back({slot, 0});
    Release(slot);
  }

  void SwapIn(int32_t slot, const std::vector<TokenRecord>& records) {
    const int cached = kPrompt + static_cast<int>(records.size()) - 1;
    for (int i = 0; i * kernels::kBlockTokens < cached; ++i) {
      plan_.swap_in_blocks.push_back({kBlocksPerSlot - 1 - i, slot * kBlocksPerSlot + i});
    }
    plan_.swap_in_rings.push_back({0, slot});
  }

  ModelConfig config_;
  std::unique_ptr<Checkpoint> checkpoint_;
  std::unique_ptr<kernels::Backend> cpu_;
  std::unique_ptr<WorkerGroup> workers_;
  StepPlan plan_;  // what the next step begins with
  int64_t step_ = 0;
  int blocks_given_[kSlots] = {};
};

TEST_P(WorkerPreemptionTest, ComputedAgain) {
  const std::vector<TokenRecord> expected = Undisturbed();
  std::vector<TokenRecord> records;
  Admit(1, {});
  Draw(1, kPreemptedAt, records);
  Release(1);
  RunAnother(1);
  Admit(0, Ids(records));
  Run(0, 0, Prompt(), /*generated=*/false, -1);
  records.push_back(Run(0, kPrompt, Ids(records), /*generated=*/true, kPreemptedAt));
  Draw(0, kDrawn, records);
  test::ExpectSameTokens(records, expected);
}

TEST_P(WorkerPreemptionTest, SwappedOutAndIn) {
  const std::vector<TokenRecord> expected = Undisturbed();
  std::vector<TokenRecord> records;
  Admit(1, {});
  Draw(1, kPreemptedAt, records);
  SwapOut(1, records);
  RunAnother(1);
  SwapIn(2, records);
  Admit(2, Ids(records));
  Draw(2, kDrawn, records);
  test::ExpectSameTokens(records, expected);
}

// So that the two above show something.
TEST_P(WorkerPreemptionTest, WithoutItsHistoryASequenceSaysSomethingElse) {
  const std::vector<TokenRecord> expected = Undisturbed();
  std::vector<TokenRecord> records;
  Admit(1, {});
  Draw(1, kPreemptedAt, records);
  SwapOut(1, records);
  SwapIn(1, records);
  Admit(1, {});
  Draw(1, kDrawn, records);
  EXPECT_NE(Ids(records), Ids(expected));
}

TEST_P(WorkerPreemptionTest, TellsWhatABlockCosts) { EXPECT_GT(workers_->seconds_per_swapped_block(), 0.0); }

INSTANTIATE_TEST_SUITE_P(World, WorkerPreemptionTest, testing::Values(1, 2));

}  // namespace
}  // namespace yoio
