#include "engine/step_plan.h"

#include <functional>
#include <limits>
#include <random>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace yoio {
namespace {

using ::testing::HasSubstr;

// Every field set to something that no other field has.
StepPlan FullPlan() {
  StepPlan plan;
  plan.step = 0x123456789abcdef0;
  plan.released_slots = {3, 1};
  plan.admitted.resize(2);
  SlotAdmission& admission = plan.admitted[0];
  admission.slot = 7;
  admission.sampling.temperature = 0.7f;
  admission.sampling.top_p = 0.9f;
  admission.sampling.top_k = 40;
  admission.sampling.min_p = 0.05f;
  admission.sampling.repetition_penalty = 1.1f;
  admission.sampling.frequency_penalty = -0.25f;
  admission.sampling.presence_penalty = 0.5f;
  admission.sampling.seed = 0xfedcba9876543210;
  admission.sampling.logit_bias = {{11, -100.0f}, {12, 2.5f}};
  admission.stop_ids = {2, 5};
  admission.min_tokens = 6;
  admission.prompt_ids = {100, 101, 102};
  admission.output_ids = {103};
  plan.admitted[1].slot = 8;
  plan.swap_out_blocks = {{40, 41}};
  plan.swap_out_rings = {{42, 43}};
  plan.ring_saves = {{44, 45}};
  plan.block_copies = {{20, 21}};
  plan.ring_copies = {{22, 23}, {24, 25}};
  plan.swap_in_blocks = {{46, 47}};
  plan.swap_in_rings = {{48, 49}};
  plan.sequences = {{7, 0, 3, 64, 0, 2, 66}, {8, 3, 1, 99, 2, 0}};
  plan.new_blocks = {30, 31};
  plan.token_ids = {500, 501, 502, -1};
  plan.positions = {64, 65, 66, 99};
  plan.num_prompt_tokens = 3;
  plan.output_tokens = {2, 3};
  plan.samples = {{0, 7, 0, 5, true, 4}, {1, 8, 1, 6, false, 0}};
  plan.scores = {{1, 77, 3}};
  return plan;
}

TEST(StepPlanTest, EveryFieldComesBack) {
  const StepPlan plan = FullPlan();
  const absl::StatusOr<StepPlan> read = DeserializeStepPlan(Serialize(plan));
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->step, plan.step);
  EXPECT_EQ(read->released_slots, plan.released_slots);
  ASSERT_EQ(read->admitted.size(), 2u);
  const SlotAdmission& admission = read->admitted[0];
  EXPECT_EQ(admission.slot, 7);
  EXPECT_EQ(admission.sampling.temperature, 0.7f);
  EXPECT_EQ(admission.sampling.top_p, 0.9f);
  EXPECT_EQ(admission.sampling.top_k, 40);
  EXPECT_EQ(admission.sampling.min_p, 0.05f);
  EXPECT_EQ(admission.sampling.repetition_penalty, 1.1f);
  EXPECT_EQ(admission.sampling.frequency_penalty, -0.25f);
  EXPECT_EQ(admission.sampling.presence_penalty, 0.5f);
  EXPECT_EQ(admission.sampling.seed, 0xfedcba9876543210);
  EXPECT_EQ(admission.sampling.logit_bias, plan.admitted[0].sampling.logit_bias);
  EXPECT_EQ(admission.stop_ids, plan.admitted[0].stop_ids);
  EXPECT_EQ(admission.min_tokens, 6);
  EXPECT_EQ(admission.prompt_ids, plan.admitted[0].prompt_ids);
  EXPECT_EQ(admission.output_ids, plan.admitted[0].output_ids);
  ASSERT_EQ(read->swap_out_blocks.size(), 1u);
  EXPECT_EQ(read->swap_out_blocks[0].destination, 41);
  ASSERT_EQ(read->swap_out_rings.size(), 1u);
  EXPECT_EQ(read->swap_out_rings[0].destination, 43);
  ASSERT_EQ(read->ring_saves.size(), 1u);
  EXPECT_EQ(read->ring_saves[0].source, 44);
  ASSERT_EQ(read->swap_in_blocks.size(), 1u);
  EXPECT_EQ(read->swap_in_blocks[0].source, 46);
  ASSERT_EQ(read->swap_in_rings.size(), 1u);
  EXPECT_EQ(read->swap_in_rings[0].destination, 49);
  ASSERT_EQ(read->block_copies.size(), 1u);
  EXPECT_EQ(read->block_copies[0].source, 20);
  EXPECT_EQ(read->block_copies[0].destination, 21);
  ASSERT_EQ(read->ring_copies.size(), 2u);
  EXPECT_EQ(read->ring_copies[1].destination, 25);
  ASSERT_EQ(read->sequences.size(), 2u);
  EXPECT_EQ(read->sequences[0].slot, 7);
  EXPECT_EQ(read->sequences[1].token_begin, 3);
  EXPECT_EQ(read->sequences[0].token_count, 3);
  EXPECT_EQ(read->sequences[0].start_position, 64);
  EXPECT_EQ(read->sequences[1].new_block_begin, 2);
  EXPECT_EQ(read->sequences[0].new_block_count, 2);
  EXPECT_EQ(read->sequences[0].global_from, 66);
  EXPECT_EQ(read->new_blocks, plan.new_blocks);
  EXPECT_EQ(read->token_ids, plan.token_ids);
  EXPECT_EQ(read->positions, plan.positions);
  EXPECT_EQ(read->num_prompt_tokens, 3);
  EXPECT_EQ(read->output_tokens, plan.output_tokens);
  ASSERT_EQ(read->samples.size(), 2u);
  EXPECT_EQ(read->samples[1].output_row, 1);
  EXPECT_EQ(read->samples[0].slot, 7);
  EXPECT_EQ(read->samples[1].sample_index, 1);
  EXPECT_EQ(read->samples[0].output_position, 5);
  EXPECT_TRUE(read->samples[0].logprob);
  EXPECT_FALSE(read->samples[1].logprob);
  EXPECT_EQ(read->samples[0].top_n, 4);
  ASSERT_EQ(read->scores.size(), 1u);
  EXPECT_EQ(read->scores[0].output_row, 1);
  EXPECT_EQ(read->scores[0].target, 77);
  EXPECT_EQ(read->scores[0].top_n, 3);
}

TEST(StepPlanTest, AnEmptyPlanIsAPlan) {
  const absl::StatusOr<StepPlan> read = DeserializeStepPlan(Serialize(StepPlan{}));
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_TRUE(read->empty());
}

// The bytes themselves, so that a change of the layout is noticed, and with it the version.
TEST(StepPlanTest, TheLayoutIsFixed) {
  StepPlan plan;
  plan.step = 0x0102030405060708;
  plan.released_slots = {-2};
  const std::string bytes = Serialize(plan);
  const std::string expected = std::string("\x02\x00\x50\x59", 4) +
                               std::string("\x08\x07\x06\x05\x04\x03\x02\x01", 8) +
                               std::string("\x01\x00\x00\x00\xfe\xff\xff\xff", 8) + std::string(16 * 4, '\0');
  EXPECT_EQ(bytes, expected);
  EXPECT_EQ(Serialize(FullPlan()).size(), 476u);
}

TEST(StepPlanTest, EveryTruncationIsRefused) {
  const std::string bytes = Serialize(FullPlan());
  for (size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_EQ(DeserializeStepPlan(std::string_view(bytes).substr(0, size)).status().code(),
              absl::StatusCode::kInvalidArgument)
        << size;
  }
}

TEST(StepPlanTest, BytesAfterTheEndAreRefused) {
  const absl::Status status = DeserializeStepPlan(Serialize(FullPlan()) + '\0').status();
  EXPECT_EQ(status.message(), "step plan: 1 bytes after its end");
}

TEST(StepPlanTest, AnotherVersionIsRefused) {
  std::string bytes = Serialize(FullPlan());
  bytes[0] = 3;
  EXPECT_THAT(DeserializeStepPlan(bytes).status().message(),
              HasSubstr("version 1498415107, expected 1498415106"));
}

TEST(StepPlanTest, ALengthBeyondTheEndAllocatesNothing) {
  std::string bytes = Serialize(StepPlan{});
  bytes.replace(12, 4, "\xff\xff\xff\xff");  // of released_slots
  EXPECT_THAT(DeserializeStepPlan(bytes).status().message(), HasSubstr("a length beyond the end at byte 16"));
}

// A flipped bit is refused, or it makes another plan, whose bytes are exactly these.
TEST(StepPlanTest, EveryFlippedBitIsSeenOrCarried) {
  const std::string bytes = Serialize(FullPlan());
  int refused = 0, carried = 0;
  for (size_t bit = 0; bit < bytes.size() * 8; ++bit) {
    std::string flipped = bytes;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << bit % 8));
    const absl::StatusOr<StepPlan> read = DeserializeStepPlan(flipped);
    if (read.ok()) {
      EXPECT_EQ(Serialize(*read), flipped) << "bit " << bit;
      ++carried;
    } else {
      EXPECT_EQ(read.status().code(), absl::StatusCode::kInvalidArgument);
      ++refused;
    }
  }
  EXPECT_GT(refused, 500);  // lengths, ranges, bools, the version
  EXPECT_GT(carried, 500);  // ids, positions, parameters
}

TEST(StepPlanTest, RandomDamageNeverEscapes) {
  std::mt19937 random(41);
  const std::string bytes = Serialize(FullPlan());
  for (int round = 0; round < 20000; ++round) {
    std::string damaged = bytes.substr(0, random() % 8 == 0 ? random() % bytes.size() : bytes.size());
    for (int i = 1 + random() % 4; i > 0 && damaged.size() > 4; --i) {
      damaged[4 + random() % (damaged.size() - 4)] =
          static_cast<char>(random() % 4 == 0 ? 0xff : random() % 9);
    }
    const absl::StatusOr<StepPlan> read = DeserializeStepPlan(damaged);
    if (read.ok()) {
      EXPECT_EQ(Serialize(*read), damaged);
    }
  }
}

TEST(StepPlanTest, ContradictionsAreRefused) {
  constexpr int32_t kHuge = std::numeric_limits<int32_t>::max();
  const std::vector<std::pair<std::string, std::function<void(StepPlan&)>>> cases = {
      {"number of positions 3", [](StepPlan& p) { p.positions.pop_back(); }},
      {"num_prompt_tokens 5", [](StepPlan& p) { p.num_prompt_tokens = 5; }},
      {"num_prompt_tokens -1", [](StepPlan& p) { p.num_prompt_tokens = -1; }},
      {"token_begin 0", [](StepPlan& p) { p.sequences[0].token_count = 0; }},
      {"token_begin 0", [](StepPlan& p) { p.sequences[0].token_count = 5; }},
      {"token_begin 3", [](StepPlan& p) { p.sequences[1].token_count = kHuge; }},
      {"token_begin -1", [](StepPlan& p) { p.sequences[0].token_begin = -1; }},
      {"new_block_begin 0", [](StepPlan& p) { p.sequences[0].new_block_count = 3; }},
      {"new_block_begin 2", [](StepPlan& p) { p.sequences[1].new_block_count = -1; }},
      {"output token 4", [](StepPlan& p) { p.output_tokens[1] = 4; }},
      {"output token 2", [](StepPlan& p) { p.output_tokens[1] = 2; }},
      {"output_row 2", [](StepPlan& p) { p.samples[0].output_row = 2; }},
      {"output_row -1", [](StepPlan& p) { p.scores[0].output_row = -1; }},
  };
  for (const auto& [message, damage] : cases) {
    StepPlan plan = FullPlan();
    damage(plan);
    const absl::Status status = DeserializeStepPlan(Serialize(plan)).status();
    EXPECT_EQ(status.message(), "step plan: " + message + " is out of range");
  }
}

}  // namespace
}  // namespace yoio
