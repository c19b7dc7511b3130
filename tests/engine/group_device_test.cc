// Engines whose ranks have a GPU each: in one process and in several, the same tokens; lost processes.
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/create.h"
#include "engine/errors.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/engine/engine_harness.h"
#include "tests/engine/group_harness.h"
#include "tests/support/random.h"

namespace yoio {
namespace {

using test::Call;
using test::ExpectAllReturned;
using test::ExpectSameTokens;
using test::FollowerOptions;
using test::FollowerThread;
using test::Generate;
using test::GroupOptionsFor;
using test::IdsRequest;
using test::MakeEngine;
using test::MemoryDoorway;
using test::Random;
using test::StreamOutput;
using test::Submit;
using testing::HasSubstr;

EngineOptions OnGpus(int nnodes, int ranks_per_node) {
  EngineOptions options = GroupOptionsFor(nnodes, ranks_per_node);
  options.device = Device::kCuda;
  return options;
}

Devices Gpu(int index) {
  std::vector<std::unique_ptr<kernels::Backend>> gpu;
  gpu.push_back(*kernels::MakeBackend(kernels::DeviceKind::kCuda, index));
  return Devices(kernels::DeviceKind::kCuda, std::move(gpu));
}

int NumGpus() {
  int count = 0;
  while (kernels::MakeBackend(kernels::DeviceKind::kCuda, count).ok()) ++count;
  return count;
}

class GroupDeviceTest : public testing::Test {
 protected:
  void SetUp() override {
    if (NumGpus() < 2) GTEST_SKIP() << NumGpus() << " GPU(s): two are needed";
  }

  // Two processes with a GPU each; this one is the leader.
  std::unique_ptr<Engine> StartTwo() {
    EngineOptions options = OnGpus(2, 1);
    follower_ = std::make_unique<FollowerThread>(doorway_, FollowerOptions(options, 1), Gpu(1));
    options.doorway = &doorway_;
    auto engine = CreateEngine(options, Gpu(0));
    EXPECT_TRUE(engine.ok()) << engine.status();
    return engine.ok() ? *std::move(engine) : nullptr;
  }

  MemoryDoorway doorway_;
  std::unique_ptr<FollowerThread> follower_;
};

Request RequestOfKind(int kind) {
  Request request = IdsRequest(absl::StrCat(kind), 20 + 90 * kind, 40, 10 + kind);
  request.temperature = kind % 2 == 0 ? 0.0f : 0.9f;
  request.seed = 7 + kind;
  request.logprobs = {.output = true, .prompt = false, .top_n = kind};
  return request;
}

// Long prompts side by side; `check_index` fails a step in which the ranks' indexes differ.
TEST_F(GroupDeviceTest, RanksThatIndexByRows) {
  EngineOptions options = OnGpus(1, 2);
  options.index_sharding = IndexSharding::kRows;
  const auto engine = MakeEngine(options);
  std::vector<std::shared_ptr<Call>> calls;
  for (int i = 0; i < 16; ++i)
    calls.push_back(Submit(*engine, IdsRequest(absl::StrCat(i), 200 + 17 * i, 60, i)));
  for (const auto& call : calls) {
    const StreamOutput output = call->Wait();
    EXPECT_EQ(output.end, absl::OkStatus());
    EXPECT_EQ(output.choices[0].tokens.size(), 60u);
  }
  ExpectAllReturned(*engine);
}

TEST_F(GroupDeviceTest, TwoProcessesSayWhatOneSays) {
  std::vector<StreamOutput> expected;
  {
    const auto engine = MakeEngine(OnGpus(1, 2));
    for (int kind = 0; kind < 4; ++kind) expected.push_back(Generate(*engine, RequestOfKind(kind)));
    ExpectAllReturned(*engine);
  }
  auto engine = StartTwo();
  ASSERT_NE(engine, nullptr);
  for (int kind = 0; kind < 4; ++kind) {
    SCOPED_TRACE(absl::StrCat("kind ", kind));
    const StreamOutput output = Generate(*engine, RequestOfKind(kind));
    ExpectSameTokens(output.choices[0].tokens, expected[kind].choices[0].tokens);
  }
  engine.reset();
  EXPECT_EQ(follower_->Join(), absl::OkStatus());
}

TEST_F(GroupDeviceTest, HalfOfTheRequestsCancelledAtRandom) {
  const auto engine = StartTwo();
  ASSERT_NE(engine, nullptr);
  Random random(3);
  std::vector<std::shared_ptr<Call>> calls;
  for (int i = 0; i < 80; ++i) {
    calls.push_back(
        Submit(*engine, IdsRequest(absl::StrCat(i), 1 + random.Below(300), 1 + random.Below(60), i)));
    if (i % 2 == 0) continue;
    calls[random.Below(i)]->WaitForTokens(random.Below(10));
    // One that is done already is NOT_FOUND.
    engine->Cancel("default", absl::StrCat(random.Below(i + 1)), absl::CancelledError("by the test"))
        .IgnoreError();
  }
  for (const auto& call : calls) {
    const absl::Status end = *call->Wait().end;
    EXPECT_TRUE(end.ok() || absl::IsCancelled(end)) << end;
  }
  ExpectAllReturned(*engine);
}

TEST_F(GroupDeviceTest, AFollowerThatVanishesEndsAll) {
  auto engine = StartTwo();
  ASSERT_NE(engine, nullptr);
  const auto call = Submit(*engine, IdsRequest("x", 30, 4000));
  call->WaitForTokens(5);
  follower_->Cut();
  EXPECT_EQ(ReasonOf(*call->Wait().end), kReasonEngineFailed);
  // Of the ranks in one process, as these are and those of two nodes are not, the last that leaves NCCL waits
  // for the graphs of all.
  engine.reset();
  EXPECT_EQ(follower_->Join().code(), absl::StatusCode::kUnavailable);
}

TEST_F(GroupDeviceTest, TooFewGpus) {
  const int count = NumGpus();
  EngineOptions options = OnGpus(1, 4);
  if (count >= 4) GTEST_SKIP() << count << " GPUs are enough";
  const absl::Status status = Engine::Create(options).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr(absl::StrCat("needs 4 GPUs in this process, but it sees ", count)));
  options.device = Device::kAuto;
  std::string reason;
  options.on_fallback = [&](const absl::Status& why) { reason = std::string(why.message()); };
  EXPECT_EQ(MakeEngine(options)->memory().device, "cpu");
  EXPECT_THAT(reason, HasSubstr("needs 4 GPUs"));
}

}  // namespace
}  // namespace yoio
