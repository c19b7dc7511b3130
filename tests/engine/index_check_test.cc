#include "engine/index_check.h"

#include <memory>
#include <string>
#include <vector>

#include "engine/comm/local_communicator.h"
#include "gtest/gtest.h"
#include "tests/support/spawn_ranks.h"

namespace yoio {
namespace {

constexpr int kTopK = 3;

struct Index {
  std::vector<int32_t> count = {3, 1};
  std::vector<int32_t> slots = {7, 8, 9, 40, -1, -1};
};

// What the check of each rank says; all must say the same.
absl::Status Check(const std::vector<Index>& ranks, int num_rows) {
  const auto cpu = *kernels::MakeBackend(kernels::DeviceKind::kCpu, 0);
  const auto comms = MakeLocalCommunicators(static_cast<int>(ranks.size()));
  std::vector<absl::Status> said(ranks.size());
  const absl::Status spawned = test::SpawnRanks(comms, [&](Communicator& comm) {
    const auto stream = *cpu->NewStream(1);
    const auto check = *IndexCheck::Create({.backend = cpu.get(), .stream = stream.get(), .comm = &comm});
    const Index& index = ranks[comm.rank()];
    said[comm.rank()] = check->Run(
        5, {.slots = index.slots.data(), .count = index.count.data(), .num_rows = 2, .top_k = kTopK},
        num_rows);
    return absl::OkStatus();
  });
  EXPECT_EQ(spawned, absl::OkStatus());
  for (const absl::Status& status : said) EXPECT_EQ(status, said[0]);
  return said[0];
}

TEST(IndexCheckTest, RanksThatAgree) {
  EXPECT_EQ(Check({Index{}}, 2), absl::OkStatus());
  Index same;
  same.slots[5] = 123;  // past the count
  EXPECT_EQ(Check({Index{}, same, Index{}}, 2), absl::OkStatus());
}

TEST(IndexCheckTest, OneSlotOrCountThatDiffers) {
  Index slot, count;
  slot.slots[3] = 41;
  count.count[1] = 2;
  EXPECT_EQ(Check({Index{}, Index{}, slot}, 2).message(), "step 5: rank 2 holds another index than rank 0");
  EXPECT_EQ(Check({Index{}, count}, 2).code(), absl::StatusCode::kInternal);
  EXPECT_EQ(Check({Index{}, slot}, 1), absl::OkStatus()) << "a row that is padding";
}

}  // namespace
}  // namespace yoio
