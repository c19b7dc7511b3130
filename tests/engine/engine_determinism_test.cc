// Invariant I5 on a whole engine: a token depends on model, prompt, sampling and seed, and on nothing else.
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "tests/engine/engine_harness.h"

namespace yoio {
namespace {

using test::Call;
using test::ExpectAllReturned;
using test::ExpectSameTokens;
using test::Generate;
using test::IdsRequest;
using test::MakeEngine;
using test::MicroOptions;
using test::StreamOutput;
using test::Submit;

// Longer than the top-k, the window and a block; drawn with noise, so that one bit elsewhere would show.
Request Sampled(const std::string& id) {
  Request request = IdsRequest(id, /*prompt_tokens=*/150, /*max_tokens=*/60);
  request.temperature = 1.0f;
  request.seed = 1234;
  request.logprobs = {.output = true, .prompt = false, .top_n = 3};
  return request;
}

// Sixty-three others of every kind.
std::vector<std::shared_ptr<Call>> SubmitCrowd(Engine& engine) {
  std::vector<std::shared_ptr<Call>> calls;
  for (int i = 0; i < 63; ++i) {
    Request request = IdsRequest(absl::StrCat("other", i), 1 + 13 * i % 110, 3 + i / 2, 100 + i);
    request.temperature = i % 2 == 0 ? 0.0f : 0.8f;
    request.seed = i;
    if (i % 7 == 0) request.n = 2;
    if (i % 5 == 0) request.repetition_penalty = 1.2f;
    calls.push_back(Submit(engine, request));
  }
  return calls;
}

struct Shape {
  int max_step_tokens;
  int depth;
  int threads;
  const char* model = "micro";

  EngineOptions Options() const {
    EngineOptions options = MicroOptions();
    options.model_dir = absl::StrCat(YOIO_SOURCE_DIR "/tests/golden/", model);
    return options;
  }
};

class EngineDeterminismTest : public testing::TestWithParam<Shape> {};
INSTANTIATE_TEST_SUITE_P(Shapes, EngineDeterminismTest,
                         testing::Values(Shape{512, 1, 1}, Shape{1, 1, 2}, Shape{7, 2, 3}, Shape{64, 1, 3},
                                         Shape{64, 2, 1}, Shape{512, 2, 2}, Shape{33, 2, 2, "micro_gqa"}),
                         [](const auto& info) {
                           return absl::StrCat(info.param.model, "StepTokens", info.param.max_step_tokens,
                                               "Depth", info.param.depth, "Threads", info.param.threads);
                         });

TEST_P(EngineDeterminismTest, AloneAndInACrowd) {
  EngineOptions options = GetParam().Options();
  const StreamOutput expected = Generate(*MakeEngine(options), Sampled("alone"));
  ASSERT_EQ(expected.choices[0].tokens.size(), 60u);

  options.max_step_tokens = GetParam().max_step_tokens;
  options.pipeline_depth = GetParam().depth;
  options.threads = GetParam().threads;
  const auto engine = MakeEngine(options);
  ExpectSameTokens(Generate(*engine, Sampled("alone")).choices[0].tokens, expected.choices[0].tokens);

  const auto crowd = SubmitCrowd(*engine);
  ExpectSameTokens(Generate(*engine, Sampled("in a crowd")).choices[0].tokens, expected.choices[0].tokens);
  for (const auto& call : crowd) EXPECT_EQ(call->Wait().end, absl::OkStatus());
  ExpectAllReturned(*engine);
}

TEST(DeterminismTest, GreedyTwiceIsTheSameTwice) {
  const auto engine = MakeEngine(MicroOptions());
  const StreamOutput first = Generate(*engine, IdsRequest("first", 200, 100));
  EXPECT_EQ(Generate(*engine, IdsRequest("second", 200, 100)).choices[0].ids(), first.choices[0].ids());
}

TEST(DeterminismTest, EveryChoiceOfManyStandsForItself) {
  for (const int prompt_tokens : {63, 64, 65, 150}) {
    const auto engine = MakeEngine(MicroOptions());
    const auto run = [&](int n) {
      Request request = IdsRequest(absl::StrCat("n", n), prompt_tokens, 70);
      request.temperature = 1.0f;
      request.seed = 99;
      request.n = n;
      request.logprobs.output = true;
      return Generate(*engine, request);
    };
    const StreamOutput one = run(1), two = run(2), four = run(4);
    ExpectSameTokens(two.choices[0].tokens, one.choices[0].tokens);
    for (int choice : {0, 1}) ExpectSameTokens(four.choices[choice].tokens, two.choices[choice].tokens);
    EXPECT_NE(four.choices[0].ids(), four.choices[1].ids());
    EXPECT_NE(four.choices[2].ids(), four.choices[3].ids());
    EXPECT_EQ(four.summary->usage.completion_tokens, 4 * 70);
    ExpectAllReturned(*engine);
  }
}

TEST(DeterminismTest, AnotherSeedIsAnotherText) {
  const auto engine = MakeEngine(MicroOptions());
  Request request = Sampled("seed");
  const auto first = Generate(*engine, request).choices[0].ids();
  request.seed = 4321;
  EXPECT_NE(Generate(*engine, request).choices[0].ids(), first);
}

TEST(DeterminismTest, TensorParallelWorldsAgreeOnGreedyTokens) {
  for (const char* model : {"micro", "micro_gqa"}) {
    EngineOptions options = Shape{64, 1, 1, model}.Options();
    options.max_step_tokens = 64;
    const StreamOutput expected = Generate(*MakeEngine(options), IdsRequest("one", 150, 40));
    for (const int world : {2, 4}) {
      options.tensor_parallel_size = world;
      options.pipeline_depth = world / 2;
      const auto engine = MakeEngine(options);
      const StreamOutput output = Generate(*engine, IdsRequest("many", 150, 40));
      EXPECT_EQ(output.choices[0].ids(), expected.choices[0].ids()) << model << ", " << world << " ranks";
      ExpectAllReturned(*engine);
    }
  }
}

TEST(DeterminismTest, TensorParallelInACrowd) {
  EngineOptions options = MicroOptions();
  options.tensor_parallel_size = 2;
  options.max_step_tokens = 100;
  const auto engine = MakeEngine(options);
  const StreamOutput expected = Generate(*engine, Sampled("alone"));
  const auto crowd = SubmitCrowd(*engine);
  ExpectSameTokens(Generate(*engine, Sampled("in a crowd")).choices[0].tokens, expected.choices[0].tokens);
  for (const auto& call : crowd) EXPECT_EQ(call->Wait().end, absl::OkStatus());
  ExpectAllReturned(*engine);
}

}  // namespace
}  // namespace yoio
