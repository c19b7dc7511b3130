// Engines of several processes: the same tokens as in one, and an orderly end.
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
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

struct Shape {
  int nnodes;
  int ranks_per_node;
  int depth;
  IndexSharding index_sharding = IndexSharding::kRank0;
};

class GroupTest : public testing::TestWithParam<Shape> {
 protected:
  static EngineOptions Options() {
    EngineOptions options = GroupOptionsFor(GetParam().nnodes, GetParam().ranks_per_node);
    options.pipeline_depth = GetParam().depth;
    options.max_step_tokens = 64;
    options.index_sharding = GetParam().index_sharding;
    return options;
  }

  // All processes, once they are up.
  std::unique_ptr<Engine> Start(EngineOptions options) {
    for (int node = 1; node < options.nnodes; ++node) {
      followers_.push_back(std::make_unique<FollowerThread>(doorway_, FollowerOptions(options, node)));
    }
    options.doorway = &doorway_;
    auto engine = MakeEngine(options);
    for (const auto& follower : followers_) EXPECT_TRUE(follower->ready());
    return engine;
  }

  MemoryDoorway doorway_;
  std::vector<std::unique_ptr<FollowerThread>> followers_;
};
INSTANTIATE_TEST_SUITE_P(Shapes, GroupTest,
                         testing::Values(Shape{2, 1, 1}, Shape{2, 1, 2}, Shape{2, 2, 1}, Shape{4, 1, 2},
                                         Shape{2, 1, 1, IndexSharding::kRows},
                                         Shape{2, 2, 2, IndexSharding::kRows}),
                         [](const auto& info) {
                           const bool by_rows = info.param.index_sharding == IndexSharding::kRows;
                           return absl::StrCat(info.param.nnodes, "x", info.param.ranks_per_node, "Depth",
                                               info.param.depth, by_rows ? "ByRows" : "");
                         });

// Every feature that concerns ranks: penalties, several choices, noise, log-probabilities, prompt scores.
Request RequestOfKind(int kind) {
  Request request = IdsRequest(absl::StrCat(kind), 20 + 37 * kind, 30, 10 + kind);
  request.temperature = kind % 2 == 0 ? 0.0f : 0.9f;
  request.seed = 7 + kind;
  request.n = 1 + kind % 3;
  request.logprobs = {.output = true, .prompt = kind == 4, .top_n = kind % 3};
  if (kind % 2 == 1) request.repetition_penalty = 1.3f;
  return request;
}

TEST_P(GroupTest, TheSameTokensAsInOneProcess) {
  constexpr int kKinds = 6;
  EngineOptions alone = Options();
  alone.nnodes = 1;
  alone.index_sharding = IndexSharding::kRank0;
  std::vector<StreamOutput> expected;
  {
    const auto engine = MakeEngine(alone);
    for (int kind = 0; kind < kKinds; ++kind) expected.push_back(Generate(*engine, RequestOfKind(kind)));
  }
  auto engine = Start(Options());
  EXPECT_EQ(engine->memory().ranks, Options().tensor_parallel_size);
  std::vector<std::shared_ptr<Call>> calls;
  for (int kind = 0; kind < kKinds; ++kind) calls.push_back(Submit(*engine, RequestOfKind(kind)));
  for (int kind = 0; kind < kKinds; ++kind) {
    SCOPED_TRACE(absl::StrCat("kind ", kind));
    const StreamOutput output = calls[kind]->Wait();
    EXPECT_EQ(output.end, absl::OkStatus());
    ASSERT_EQ(output.choices.size(), expected[kind].choices.size());
    for (size_t i = 0; i < output.choices.size(); ++i) {
      ExpectSameTokens(output.choices[i].tokens, expected[kind].choices[i].tokens);
    }
    ExpectSameTokens(output.scores, expected[kind].scores);
  }
  engine.reset();
  for (const auto& follower : followers_) EXPECT_EQ(follower->Join(), absl::OkStatus()) << "told Bye";
}

TEST_P(GroupTest, HalfOfTheRequestsCancelledAtRandom) {
  EngineOptions options = Options();
  options.max_sequences = 5;
  options.max_model_len = 300;
  const auto engine = Start(options);
  Random random(GetParam().nnodes);
  std::vector<std::shared_ptr<Call>> calls;
  std::vector<std::string> live;
  for (int i = 0; i < 60; ++i) {
    Request request = IdsRequest(absl::StrCat(i), 1 + random.Below(150), 1 + random.Below(40), i);
    request.n = 1 + random.Below(3);
    live.push_back(request.id);
    calls.push_back(Submit(*engine, request));
    if (i % 2 == 0) continue;
    calls[random.Below(i)]->WaitForTokens(random.Below(10));
    // One that is done already is NOT_FOUND.
    engine->Cancel("default", live[random.Below(i + 1)], absl::CancelledError("by the test")).IgnoreError();
  }
  for (const auto& call : calls) {
    const StreamOutput output = call->Wait();
    EXPECT_TRUE(output.end->ok() || absl::IsCancelled(*output.end)) << *output.end;
  }
  ExpectAllReturned(*engine);
  const StreamOutput after = Generate(*engine, IdsRequest("after", 100, 20));
  EXPECT_EQ(after.choices[0].tokens.size(), 20u);
}

}  // namespace
}  // namespace yoio
