#include "engine/memory_plan.h"

#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "base/host_resources.h"
#include "engine/checkpoint/config.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace yoio {
namespace {

using testing::HasSubstr;

// 2 + 2 layers, 4 heads of 16, window 24, index dim 16, 4096 positions, vocabulary 256.
ModelConfig Micro() { return *ReadModelConfig(YOIO_SOURCE_DIR "/tests/golden/micro", ""); }

// Ranks on a CPU that has `available` bytes for each of them.
DeviceMemory Cpu(std::vector<int64_t> available = {int64_t{1} << 40}) {
  return {.device = "cpu",
          .activations = kernels::DType::kF32,
          .asynchronous = false,
          .available = std::move(available)};
}

// Floats of one token in one store: K and V of every head.
constexpr int64_t kStoreWidth = 2 * 4 * 16;
constexpr int64_t kRingTokens = (1 + 1) * 64;  // a window of 24, rounded up to blocks, and one block
constexpr int64_t kRingBytes = 2 * kRingTokens * kStoreWidth * 4;       // two window layers
constexpr int64_t kBlockBytes = 64 * (kStoreWidth + /*index*/ 16) * 4;  // one memory store and its index keys

// Without a prefix cache: all that rings leave is blocks.
EngineOptions Options(int64_t cache_bytes) {
  EngineOptions options;
  options.prefix_cache = false;
  options.kv_cache_bytes = cache_bytes;
  options.max_sequences = 4;
  options.threads = 1;
  return options;
}

std::string ErrorOf(const EngineOptions& options, absl::StatusCode code) {
  const auto sizing = PlanMemory(options, Micro(), Cpu());
  EXPECT_EQ(sizing.status().code(), code) << sizing.status();
  return std::string(sizing.status().message());
}

TEST(MemoryPlanTest, DividesWhatTheFlagGives) {
  const auto sizing = PlanMemory(Options(4 * kRingBytes + 100 * kBlockBytes + 1), Micro(), Cpu());
  ASSERT_TRUE(sizing.ok()) << sizing.status();
  const MemoryPlan& memory = sizing->memory;
  EXPECT_EQ(memory.bytes_per_ring, kRingBytes);
  EXPECT_EQ(memory.bytes_per_cached_token, kBlockBytes / 64);
  EXPECT_EQ(memory.global_blocks, 100);
  EXPECT_EQ(memory.cache_bytes, 4 * kRingBytes + 100 * kBlockBytes);
  EXPECT_EQ(memory.max_sequences, 4);
  EXPECT_EQ(memory.ranks, 1);
  EXPECT_EQ(memory.threads, 1);
  EXPECT_GT(memory.weight_bytes, 0);
  EXPECT_GT(memory.activation_bytes, 0);
  EXPECT_EQ(sizing->max_model_len, 4096);
  EXPECT_EQ(sizing->cache.num_blocks, 100);
  EXPECT_EQ(sizing->cache.ring_tokens, kRingTokens);
  EXPECT_EQ(sizing->cache.max_blocks_per_sequence, 64);
}

TEST(MemoryPlanTest, NoMoreBlocksThanSequencesCanFill) {
  const auto sizing = PlanMemory(Options(int64_t{1} << 40), Micro(), Cpu());
  ASSERT_TRUE(sizing.ok()) << sizing.status();
  EXPECT_EQ(sizing->memory.global_blocks, 4 * 4096 / 64);
}

TEST(MemoryPlanTest, SequencesThatFit) {
  MemoryPlan memory{};
  memory.global_blocks = 100;
  memory.max_sequences = 64;
  EXPECT_EQ(memory.SequencesThatFit(1), 64) << "slots are the limit";
  EXPECT_EQ(memory.SequencesThatFit(4096), 1);
  EXPECT_EQ(memory.SequencesThatFit(640), 10);
  EXPECT_EQ(memory.SequencesThatFit(641), 9);
  EXPECT_EQ(memory.SequencesThatFit(6401), 0);
}

TEST(MemoryPlanTest, ASmallCacheShortensTheModelsOwnLength) {
  const auto sizing = PlanMemory(Options(4 * kRingBytes + 10 * kBlockBytes), Micro(), Cpu());
  ASSERT_TRUE(sizing.ok()) << sizing.status();
  EXPECT_EQ(sizing->max_model_len, 640);
  EXPECT_EQ(sizing->cache.max_blocks_per_sequence, 10);
}

TEST(MemoryPlanTest, ButNotALengthThatWasAskedFor) {
  EngineOptions options = Options(4 * kRingBytes + 10 * kBlockBytes);
  options.max_model_len = 640;
  EXPECT_TRUE(PlanMemory(options, Micro(), Cpu()).ok());
  options.max_model_len = 641;
  const std::string message = ErrorOf(options, absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(message, HasSubstr("--max-model-len to at most 640"));
  EXPECT_THAT(message, HasSubstr("--kv-cache-bytes"));
}

TEST(MemoryPlanTest, ACacheWithoutRoomForItsRings) {
  const std::string message =
      ErrorOf(Options(4 * kRingBytes + kBlockBytes - 1), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(message, HasSubstr("--max-sequences"));
  EXPECT_THAT(message, HasSubstr(std::to_string(4 * kRingBytes + kBlockBytes - 1)));
  EXPECT_TRUE(PlanMemory(Options(4 * kRingBytes + kBlockBytes), Micro(), Cpu()).ok());
}

EngineOptions CachingOptions(int64_t cache_bytes) {
  EngineOptions options = Options(cache_bytes);
  options.prefix_cache = true;
  return options;
}

TEST(MemoryPlanTest, SnapshotsTakeAnEighth) {
  EngineOptions options = CachingOptions(64 * kRingBytes);
  options.max_sequences = 8;
  const auto sizing = PlanMemory(options, Micro(), Cpu());
  ASSERT_TRUE(sizing.ok()) << sizing.status();
  EXPECT_TRUE(sizing->prefix_cache);
  EXPECT_EQ(sizing->cache.num_snapshots, 8);
  EXPECT_EQ(sizing->memory.snapshots, 8);
  EXPECT_EQ(sizing->cache.num_blocks, (64 - 8 - 8) * kRingBytes / kBlockBytes);
  EXPECT_EQ(sizing->memory.cache_bytes, 16 * kRingBytes + sizing->cache.num_blocks * kBlockBytes);
  EXPECT_EQ(sizing->replay_tokens, 2 * 24) << "two layers, each with a window";
}

TEST(MemoryPlanTest, NoMoreSnapshotsThanMakeSense) {
  const auto sizing = PlanMemory(CachingOptions(int64_t{1} << 40), Micro(), Cpu());
  ASSERT_TRUE(sizing.ok()) << sizing.status();
  EXPECT_EQ(sizing->cache.num_snapshots, 2 * 4 + 4 * 4096 / 8192);
  EXPECT_EQ(sizing->cache.num_blocks, 4 * 4096 / 64);
}

TEST(MemoryPlanTest, NoSnapshotsWithoutAPrefixCache) {
  const auto sizing = PlanMemory(Options(int64_t{1} << 40), Micro(), Cpu());
  ASSERT_TRUE(sizing.ok()) << sizing.status();
  EXPECT_FALSE(sizing->prefix_cache);
  EXPECT_EQ(sizing->cache.num_snapshots, 0);
}

// What works without snapshots works with them: the longest sequence fits as before.
TEST(MemoryPlanTest, SnapshotsTakeNothingThatTheLongestSequenceNeeds) {
  for (int64_t blocks = 1; blocks <= 90; ++blocks) {
    for (const int max_model_len : {0, 640, 4096}) {
      EngineOptions options = Options(4 * kRingBytes + blocks * kBlockBytes);
      options.max_model_len = max_model_len;
      const auto without = PlanMemory(options, Micro(), Cpu());
      options.prefix_cache = true;
      const auto with = PlanMemory(options, Micro(), Cpu());
      ASSERT_EQ(with.status(), without.status());
      if (!with.ok()) continue;
      EXPECT_EQ(with->max_model_len, without->max_model_len);
      EXPECT_GE(with->cache.num_blocks * 64, with->max_model_len);
      EXPECT_LE(with->memory.cache_bytes, options.kv_cache_bytes);
      EXPECT_TRUE(with->prefix_cache);
    }
  }
}

TEST(MemoryPlanTest, RanksHaveAsManySnapshotsAsTheTightestOne) {
  EngineOptions options = CachingOptions(0);
  options.tensor_parallel_size = 2;
  const auto snapshots = [&](std::vector<int64_t> available) {
    const auto sizing = PlanMemory(options, Micro(), Cpu(std::move(available)));
    EXPECT_TRUE(sizing.ok()) << sizing.status();
    return sizing->cache.num_snapshots;
  };
  constexpr int64_t kMuch = int64_t{1} << 30, kLittle = 4 << 20;
  EXPECT_EQ(snapshots({kMuch, kMuch}), 2 * 4 + 4 * 4096 / 8192);
  EXPECT_LT(snapshots({kMuch, kLittle}), snapshots({kMuch, kMuch}));
  EXPECT_LT(snapshots({kLittle, kMuch}), snapshots({kMuch, kMuch}));
}

TEST(MemoryPlanTest, PlansThatCannotShareTheirPrefixes) {
  const auto shares = [](ModelPlan plan) {
    ModelConfig config = Micro();
    config.plan = std::move(plan);
    const auto sizing = PlanMemory(CachingOptions(int64_t{1} << 30), config, Cpu());
    EXPECT_TRUE(sizing.ok()) << sizing.status();
    EXPECT_TRUE(sizing->prefix_cache || sizing->cache.num_snapshots == 0);
    return sizing->prefix_cache;
  };
  const ModelPlan micro = Micro().plan;
  EXPECT_TRUE(shares(micro));

  ModelPlan windows = micro;  // no global store
  windows.layers.resize(2);
  windows.stores.resize(2);
  windows.indexers.clear();
  EXPECT_FALSE(shares(windows));

  ModelPlan above = micro;  // a window layer reads what a layer of the global store has made
  std::swap(above.layers[1], above.layers[2]);
  EXPECT_FALSE(shares(above));

  ModelPlan global = micro;  // no window store
  for (Store& store : global.stores) store.window = 0;
  EXPECT_TRUE(shares(global));
}

TEST(MemoryPlanTest, RanksShareEverythingButTheIndexKeys) {
  EngineOptions options = Options(int64_t{1} << 30);
  const MemoryPlan alone = PlanMemory(options, Micro(), Cpu())->memory;
  options.tensor_parallel_size = 4;
  const MemoryPlan shared = PlanMemory(options, Micro(), Cpu())->memory;
  EXPECT_EQ(shared.ranks, 4);
  EXPECT_EQ(shared.bytes_per_ring, kRingBytes / 4);
  EXPECT_EQ(shared.bytes_per_cached_token, (kStoreWidth / 4 + 16) * 4);
  EXPECT_LT(shared.weight_bytes, alone.weight_bytes);
  EXPECT_EQ(shared.threads, 4) << "one for each rank at least";
}

TEST(MemoryPlanTest, TheRankWithTheLeastRoomDecides) {
  EngineOptions options = Options(0);
  options.tensor_parallel_size = 2;
  const auto blocks = [&](std::vector<int64_t> available) {
    const auto sizing = PlanMemory(options, Micro(), Cpu(std::move(available)));
    EXPECT_TRUE(sizing.ok()) << sizing.status();
    return sizing->cache.num_blocks;
  };
  constexpr int64_t kMuch = int64_t{1} << 30, kLittle = 4 << 20;
  const int32_t most = blocks({kMuch, kMuch});
  EXPECT_EQ(most, 4 * 4096 / 64) << "this model is small";
  const int32_t first = blocks({kLittle, kMuch}), second = blocks({kMuch, kLittle});
  EXPECT_LT(second, most);
  EXPECT_LT(first, second) << "rank 0 has the index keys to carry too";
  EXPECT_EQ(blocks({kLittle, kLittle}), first);
  options.index_sharding = IndexSharding::kRows;
  EXPECT_LT(blocks({kMuch, kLittle}), second) << "all carry them";
}

TEST(MemoryPlanTest, ARankWithoutRoomIsNamed) {
  EngineOptions options = Options(0);
  options.tensor_parallel_size = 2;
  const auto sizing = PlanMemory(options, Micro(), Cpu({int64_t{1} << 30, 1000}));
  EXPECT_EQ(sizing.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(sizing.status().message()), testing::StartsWith("rank 1 of 2 needs "));
  EXPECT_THAT(std::string(sizing.status().message()), HasSubstr("only 1000 bytes"));
}

TEST(MemoryPlanTest, NothingLeftIsNoNegativeNumber) {
  const auto sizing = PlanMemory(Options(0), Micro(), Cpu({-1'255'538'688}));
  EXPECT_EQ(sizing.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(sizing.status().message()), HasSubstr("only 0 bytes"));
}

TEST(MemoryPlanTest, WorldSizesThatDoNotDivideTheModel) {
  EngineOptions options = Options(int64_t{1} << 30);
  options.tensor_parallel_size = 3;
  EXPECT_THAT(ErrorOf(options, absl::StatusCode::kInvalidArgument), HasSubstr("num_attention_heads"));
  options.tensor_parallel_size = 8;
  EXPECT_THAT(ErrorOf(options, absl::StatusCode::kInvalidArgument), HasSubstr("num_attention_heads"));
  for (const int world : {0, -2}) {
    options.tensor_parallel_size = world;
    EXPECT_THAT(ErrorOf(options, absl::StatusCode::kInvalidArgument), HasSubstr("at least 1"));
  }
}

TEST(MemoryPlanTest, FlagsOutOfRangeAreNamed) {
  const auto expect_named = [](const std::string& flag, auto set) {
    EngineOptions options = Options(int64_t{1} << 30);
    set(options);
    EXPECT_THAT(ErrorOf(options, absl::StatusCode::kInvalidArgument), testing::StartsWith(flag));
  };
  expect_named("--max-sequences", [](EngineOptions& options) { options.max_sequences = 0; });
  expect_named("--max-step-tokens", [](EngineOptions& options) { options.max_step_tokens = -1; });
  expect_named("--max-output-rows", [](EngineOptions& options) { options.max_output_rows = -1; });
  expect_named("--max-model-len", [](EngineOptions& options) { options.max_model_len = -1; });
  expect_named("--max-model-len", [](EngineOptions& options) { options.max_model_len = 4097; });
  expect_named("--kv-cache-bytes", [](EngineOptions& options) { options.kv_cache_bytes = -1; });
  expect_named("--threads", [](EngineOptions& options) { options.threads = -1; });
  expect_named("--default-max-tokens", [](EngineOptions& options) { options.default_max_tokens = 0; });
}

TEST(MemoryPlanTest, HugeFlagsOverflowNothing) {
  EngineOptions options = Options(std::numeric_limits<int64_t>::max());
  options.max_sequences = std::numeric_limits<int>::max();
  const auto sizing = PlanMemory(options, Micro(), Cpu());
  if (sizing.ok()) {
    EXPECT_LE(static_cast<int64_t>(sizing->cache.max_sequences) * sizing->cache.ring_tokens,
              std::numeric_limits<int32_t>::max())
        << "ring slots are counted in 32 bits";
  } else {
    EXPECT_THAT(std::string(sizing.status().message()), HasSubstr("--max-sequences"));
  }
}

TEST(MemoryPlanTest, WithoutAFlagTheCacheTakesWhatTheHostHas) {
  EngineOptions options = Options(0);
  const auto sizing = PlanMemory(options, Micro(), Cpu());
  ASSERT_TRUE(sizing.ok()) << sizing.status();
  EXPECT_EQ(sizing->memory.global_blocks, 4 * 4096 / 64) << "this model is small";
}

TEST(HostResourcesTest, SaysSomethingSensible) {
  EXPECT_GE(AvailableThreads(), 1);
  EXPECT_GT(AvailableMemoryBytes(), int64_t{1} << 20);
}

}  // namespace
}  // namespace yoio
