#include "engine/swap_plan.h"

#include <cstdint>
#include <string>

#include "engine/checkpoint/config.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace yoio {
namespace {

constexpr int64_t kGiB = int64_t{1} << 30;

// Of tests/golden/micro: two window layers and a memory store of 4 heads of 16, index keys of 16.
ModelConfig Micro() { return *ReadModelConfig(YOIO_SOURCE_DIR "/tests/golden/micro", ""); }

constexpr int64_t kRingBytes = 2 * 128 * (2 * 4 * 16) * 4;
constexpr int64_t kBlockBytes = 64 * (2 * 4 * 16 + 16) * 4;

DeviceMemory Machine(bool gpu, int64_t host_available) {
  return {.device = "it",
          .activations = kernels::DType::kF32,
          .asynchronous = gpu,
          .available = {kGiB},
          .host_available = host_available};
}

EngineOptions Options(int64_t swap_bytes) {
  EngineOptions options;
  options.kv_cache_bytes = 4 * kRingBytes + 100 * kBlockBytes;
  options.max_sequences = 4;
  options.threads = 1;
  options.swap_bytes = swap_bytes;
  options.prefix_cache = false;
  return options;
}

Sizing Plan(const EngineOptions& options, const DeviceMemory& machine) {
  const auto sizing = PlanMemory(options, Micro(), machine);
  EXPECT_TRUE(sizing.ok()) << sizing.status();
  return sizing.ok() ? *sizing : Sizing{};
}

TEST(SwapPlanTest, ByItselfAnEighthOfTheHostForGpusAndNothingForACpu) {
  EXPECT_EQ(SwapBytes(Options(-1), Machine(/*gpu=*/true, 8 * kGiB)), kGiB);
  EXPECT_EQ(SwapBytes(Options(-1), Machine(/*gpu=*/true, 2000 * kGiB)), 4 * kGiB);
  EXPECT_EQ(SwapBytes(Options(-1), Machine(/*gpu=*/false, 8 * kGiB)), 0);
  EXPECT_EQ(SwapBytes(Options(5 * kGiB), Machine(/*gpu=*/true, 8 * kGiB)), 5 * kGiB);
  EXPECT_EQ(SwapBytes(Options(7), Machine(/*gpu=*/false, 8 * kGiB)), 7);
}

TEST(SwapPlanTest, HalfForRingsAtMostAndTheRestForBlocks) {
  const Sizing sizing = Plan(Options(2 * kRingBytes + 3 * kBlockBytes), Machine(false, 0));
  EXPECT_EQ(sizing.cache.host_rings, 1);
  EXPECT_EQ(sizing.cache.host_blocks, (kRingBytes + 3 * kBlockBytes) / kBlockBytes);
  EXPECT_EQ(sizing.memory.swap_bytes, kRingBytes + sizing.cache.host_blocks * kBlockBytes);
}

TEST(SwapPlanTest, NoMoreThanThereCanBe) {
  const Sizing sizing = Plan(Options(kGiB / 2), Machine(false, 0));
  EXPECT_EQ(sizing.cache.host_rings, 4);
  EXPECT_EQ(sizing.cache.host_blocks, sizing.cache.num_blocks);
  EXPECT_EQ(sizing.memory.swap_bytes, 4 * kRingBytes + sizing.cache.num_blocks * kBlockBytes);
}

TEST(SwapPlanTest, NothingWhereNoSequenceFits) {
  for (const int64_t bytes : {int64_t{0}, kRingBytes + kBlockBytes - 1}) {
    const Sizing sizing = Plan(Options(bytes), Machine(false, 0));
    EXPECT_EQ(sizing.cache.host_rings, 0);
    EXPECT_EQ(sizing.cache.host_blocks, 0);
    EXPECT_EQ(sizing.memory.swap_bytes, 0);
  }
  const Sizing least = Plan(Options(kRingBytes + kBlockBytes), Machine(false, 0));
  EXPECT_EQ(least.cache.host_rings, 1);
  EXPECT_EQ(least.cache.host_blocks, 1);
}

// Ranks share heads, but the index keys are rank 0's: it decides for all.
TEST(SwapPlanTest, TheRankWithTheMostDecides) {
  EngineOptions options = Options(kRingBytes / 2 + 3 * kBlockBytes);
  options.tensor_parallel_size = 2;
  const Sizing sizing = Plan(options, Machine(false, 0));
  constexpr int64_t kFirstRanksBlock = 64 * (2 * 2 * 16 + 16) * 4;
  EXPECT_EQ(sizing.cache.host_rings, 1);
  EXPECT_EQ(sizing.cache.host_blocks, 3 * kBlockBytes / kFirstRanksBlock);
}

// On a CPU both are the same memory.
TEST(SwapPlanTest, TheCacheOfACpuHasWhatIsLeft) {
  EngineOptions options = Options(0);
  options.kv_cache_bytes = 0;
  DeviceMemory machine = Machine(false, 0);
  const Sizing without = Plan(options, machine);
  machine.available = {without.memory.weight_bytes + without.memory.activation_bytes +
                       without.memory.cache_bytes};
  options.swap_bytes = without.memory.cache_bytes / 4;
  const int64_t left = without.memory.cache_bytes - options.swap_bytes;
  EXPECT_LE(Plan(options, machine).memory.cache_bytes, left);
  EXPECT_GT(Plan(options, machine).memory.cache_bytes, left - kBlockBytes);
  options.swap_bytes = machine.available[0];
  EXPECT_EQ(PlanMemory(options, Micro(), machine).status().code(), absl::StatusCode::kResourceExhausted);
}

TEST(SwapPlanTest, NegativeBytes) {
  const auto sizing = PlanMemory(Options(-2), Micro(), Machine(false, 0));
  EXPECT_EQ(sizing.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(sizing.status().message()), testing::HasSubstr("--swap-bytes"));
}

}  // namespace
}  // namespace yoio
