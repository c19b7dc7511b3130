#include "engine/group_messages.h"

#include <random>
#include <string>
#include <vector>

#include "engine/checkpoint/config.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace yoio {
namespace {

using testing::HasSubstr;

Hello FullHello() {
  return {.version = "1.2.3",
          .node_rank = 1,
          .nnodes = 2,
          .tensor_parallel_size = 4,
          .model = "0123456789abcdef",
          .config_hash = 0xfedcba9876543210,
          .device = kernels::DeviceKind::kCuda,
          .device_name = "a GPU",
          .available_bytes = {int64_t{80} << 30, int64_t{70} << 30},
          .host_bytes = int64_t{5} << 30};
}

Welcome FullWelcome() {
  return {.first_rank = 2,
          .communicator = CommunicatorKind::kNccl,
          .ticket = std::string("a\0secret", 8),
          .dummy_weights = true,
          .index_sharding = IndexSharding::kRows,
          .check_index = true,
          .step_timeout_ns = int64_t{30'000'000'000},
          .max_model_len = 131072,
          .limits = {.max_step_tokens = 8192, .max_output_rows = 512, .depth = 2},
          .cache = {.num_blocks = 5000,
                    .max_sequences = 64,
                    .num_snapshots = 9,
                    .host_blocks = 700,
                    .host_rings = 32,
                    .max_blocks_per_sequence = 2048,
                    .ring_tokens = 1088}};
}

StepPlan SmallPlan() {
  StepPlan plan;
  plan.step = 7;
  plan.sequences = {{.slot = 1,
                     .token_begin = 0,
                     .token_count = 2,
                     .start_position = 0,
                     .new_block_begin = 0,
                     .new_block_count = 1}};
  plan.new_blocks = {3};
  plan.token_ids = {11, 12};
  plan.positions = {0, 1};
  plan.num_prompt_tokens = 2;
  return plan;
}

Ended FullEnded() {
  using std::chrono::nanoseconds;
  Ended ended{.rank = 3, .step = int64_t{1} << 40, .times = {}};
  for (int phase = 0; phase < kNumStepPhases; ++phase) {
    ended.times.phases[phase] = nanoseconds(int64_t{1'000'000'000'000} * phase + 1);
    ended.times.total += ended.times.phases[phase];
  }
  ended.times.comm_wait = nanoseconds(5);
  ended.times.recorded = true;
  return ended;
}

std::vector<GroupMessage> AllKinds() {
  return {FullHello(), FullWelcome(), Loaded{}, SmallPlan(), FullEnded(), Bye{}};
}

TEST(GroupMessagesTest, EveryKindComesBack) {
  for (const GroupMessage& message : AllKinds()) {
    const std::string bytes = SerializeMessage(message);
    const auto read = DeserializeMessage(bytes);
    ASSERT_TRUE(read.ok()) << read.status();
    EXPECT_EQ(read->index(), message.index());
    EXPECT_EQ(SerializeMessage(*read), bytes);
  }
  const Hello hello = std::get<Hello>(*DeserializeMessage(SerializeMessage(FullHello())));
  EXPECT_EQ(hello.version, "1.2.3");
  EXPECT_EQ(hello.config_hash, 0xfedcba9876543210);
  EXPECT_EQ(hello.device_name, "a GPU");
  EXPECT_EQ(hello.available_bytes, FullHello().available_bytes);
  EXPECT_EQ(hello.host_bytes, FullHello().host_bytes);
  const Welcome welcome = std::get<Welcome>(*DeserializeMessage(SerializeMessage(FullWelcome())));
  EXPECT_EQ(welcome.ticket, std::string("a\0secret", 8));
  EXPECT_EQ(welcome.index_sharding, IndexSharding::kRows);
  EXPECT_EQ(welcome.limits.depth, 2);
  EXPECT_EQ(welcome.cache.num_snapshots, 9);
  EXPECT_EQ(welcome.cache.host_blocks, 700);
  EXPECT_EQ(welcome.cache.host_rings, 32);
  EXPECT_EQ(welcome.cache.ring_tokens, 1088);
  const Ended ended = std::get<Ended>(*DeserializeMessage(SerializeMessage(FullEnded())));
  EXPECT_EQ(ended.rank, 3);
  EXPECT_EQ(ended.step, int64_t{1} << 40);
  EXPECT_EQ(ended.times.total, FullEnded().times.total);
  EXPECT_EQ(ended.times.phases, FullEnded().times.phases);
  EXPECT_EQ(ended.times.comm_wait, std::chrono::nanoseconds(5));
  EXPECT_TRUE(ended.times.recorded);
}

// The bytes themselves, so that a change of the layout is noticed, and with it the version.
TEST(GroupMessagesTest, TheLayoutIsFixed) {
  const std::string header("\x03\x00\x47\x59", 4);
  EXPECT_EQ(SerializeMessage(Loaded{}), header + std::string("\x02\0\0\0", 4));
  Ended ended{.rank = 3, .step = 5, .times = {}};
  ended.times.total = std::chrono::nanoseconds(9);
  ended.times.phases.back() = std::chrono::nanoseconds(int64_t{2} << 32);
  ended.times.comm_wait = std::chrono::nanoseconds(7);
  ended.times.recorded = true;
  EXPECT_EQ(SerializeMessage(ended), header + std::string("\x04\0\0\0\x03\0\0\0\x05\0\0\0\0\0\0\0", 16) +
                                         std::string("\x09\0\0\0\0\0\0\0", 8) + std::string(6 * 8, '\0') +
                                         std::string("\0\0\0\0\x02\0\0\0\x07\0\0\0\0\0\0\0\x01\0\0\0", 20));
  EXPECT_EQ(SerializeMessage(SmallPlan()), header + std::string("\x03\0\0\0", 4) + Serialize(SmallPlan()));
  EXPECT_EQ(SerializeMessage(FullHello()).size(), 104u);
  EXPECT_EQ(SerializeMessage(FullWelcome()).size(), 92u);
}

TEST(GroupMessagesTest, EveryTruncationAndAddition) {
  for (const GroupMessage& message : AllKinds()) {
    const std::string bytes = SerializeMessage(message);
    for (size_t size = 0; size < bytes.size(); ++size) {
      EXPECT_EQ(DeserializeMessage(std::string_view(bytes).substr(0, size)).status().code(),
                absl::StatusCode::kInvalidArgument)
          << size;
    }
    EXPECT_THAT(std::string(DeserializeMessage(bytes + '\0').status().message()),
                HasSubstr("1 bytes after its end"));
  }
}

// A flipped bit is refused, or it makes another message, whose bytes are exactly these.
TEST(GroupMessagesTest, EveryFlippedBitIsSeenOrCarried) {
  for (const GroupMessage& message : AllKinds()) {
    const std::string bytes = SerializeMessage(message);
    for (size_t bit = 0; bit < bytes.size() * 8; ++bit) {
      std::string flipped = bytes;
      flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << bit % 8));
      const auto read = DeserializeMessage(flipped);
      if (read.ok()) {
        EXPECT_EQ(SerializeMessage(*read), flipped) << "bit " << bit;
      } else {
        EXPECT_EQ(read.status().code(), absl::StatusCode::kInvalidArgument);
      }
    }
  }
}

TEST(GroupMessagesTest, RandomDamageNeverEscapes) {
  std::mt19937 random(17);
  for (const GroupMessage& message : AllKinds()) {
    const std::string bytes = SerializeMessage(message);
    for (int round = 0; round < 5000; ++round) {
      std::string damaged = bytes.substr(0, random() % 8 == 0 ? random() % bytes.size() : bytes.size());
      for (int i = 1 + random() % 4; i > 0 && damaged.size() > 4; --i) {
        damaged[4 + random() % (damaged.size() - 4)] =
            static_cast<char>(random() % 4 == 0 ? 0xff : random() % 9);
      }
      const auto read = DeserializeMessage(damaged);
      if (read.ok()) {
        EXPECT_EQ(SerializeMessage(*read), damaged);
      }
    }
  }
}

TEST(GroupMessagesTest, SizesThatNoEngineHas) {
  const auto error = [](auto message, auto change) {
    change(message);
    return std::string(DeserializeMessage(SerializeMessage(message)).status().message());
  };
  using W = Welcome;
  EXPECT_THAT(error(FullHello(), [](Hello& m) { m.available_bytes.clear(); }), HasSubstr("ranks 0"));
  EXPECT_THAT(error(FullHello(), [](Hello& m) { m.device = static_cast<kernels::DeviceKind>(2); }),
              HasSubstr("device 2"));
  EXPECT_THAT(error(FullWelcome(), [](W& m) { m.first_rank = 0; }), HasSubstr("first_rank 0"));
  EXPECT_THAT(error(FullWelcome(), [](W& m) { m.communicator = static_cast<CommunicatorKind>(3); }),
              HasSubstr("communicator 3"));
  EXPECT_THAT(error(FullWelcome(), [](W& m) { m.index_sharding = static_cast<IndexSharding>(-1); }),
              HasSubstr("index_sharding 4294967295"));
  EXPECT_THAT(error(FullWelcome(), [](W& m) { m.step_timeout_ns = 0; }), HasSubstr("step_timeout_ns 0"));
  EXPECT_THAT(error(FullWelcome(), [](W& m) { m.limits.depth = 0; }), HasSubstr("depth 0"));
  EXPECT_THAT(error(FullWelcome(), [](W& m) { m.cache.num_blocks = -5; }), HasSubstr("num_blocks -5"));
  EXPECT_THAT(error(FullWelcome(), [](W& m) { m.cache.host_rings = -1; }), HasSubstr("host_rings -1"));
  EXPECT_THAT(error(Ended{}, [](Ended& m) { m.rank = -1; }), HasSubstr("rank -1"));
  EXPECT_THAT(error(Ended{}, [](Ended& m) { m.step = -1; }), HasSubstr("step -1"));
  const Duration negative = std::chrono::nanoseconds(-3);
  EXPECT_THAT(error(Ended{}, [&](Ended& m) { m.times.total = negative; }), HasSubstr("total -3"));
  EXPECT_THAT(error(Ended{}, [&](Ended& m) { m.times.phases[4] = negative; }), HasSubstr("phase -3"));
  EXPECT_THAT(error(Ended{}, [&](Ended& m) { m.times.comm_wait = negative; }), HasSubstr("comm_wait -3"));
}

TEST(GroupMessagesTest, TheHashOfAConfigSeesEveryKey) {
  const ModelConfig micro = *ReadModelConfig(YOIO_SOURCE_DIR "/tests/golden/micro", "");
  const uint64_t hash = HashOf(micro);
  EXPECT_EQ(HashOf(*ReadModelConfig(YOIO_SOURCE_DIR "/tests/golden/micro", "")), hash);
  const auto changed = [&](auto change) {
    ModelConfig other = micro;
    change(other);
    return HashOf(other) != hash;
  };
  EXPECT_TRUE(changed([](ModelConfig& config) { ++config.index_topk; }));
  EXPECT_TRUE(changed([](ModelConfig& config) { config.rope_theta *= 2; }));
  EXPECT_TRUE(changed([](ModelConfig& config) { config.qk_norm = !config.qk_norm; }));
  EXPECT_TRUE(changed([](ModelConfig& config) { config.eos_token_ids.push_back(1); }));
}

}  // namespace
}  // namespace yoio
