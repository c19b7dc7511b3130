// A few kinds of request, many times over in random company, on an engine with little of everything: each
// must say what it says alone.
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "tests/engine/engine_harness.h"
#include "tests/support/random.h"

namespace yoio {
namespace {

using test::Call;
using test::ExpectAllReturned;
using test::ExpectSameTokens;
using test::Generate;
using test::IdsRequest;
using test::MakeEngine;
using test::MicroOptions;
using test::Random;
using test::StreamOutput;

constexpr int kKinds = 12;
constexpr int kRequests = 150;
constexpr int kSubmitters = 3;

// Prompts around the sizes of blocks, window and top-k; every feature that touches the cache or the sampler.
Request RequestOfKind(int kind, const std::string& id) {
  constexpr int kPrompts[] = {1, 2, 24, 31, 33, 63, 64, 65, 127, 128, 129, 200};
  Request request = IdsRequest(id, kPrompts[kind], 1 + 7 * kind % 40, 50 + kind);
  request.temperature = kind % 3 == 0 ? 0.0f : 0.9f;
  request.seed = 1000 + kind;
  request.n = 1 + kind % 4;
  request.logprobs = {.output = true, .prompt = kind % 5 == 2, .top_n = kind % 3};
  if (kind % 4 == 1) request.repetition_penalty = 1.3f;
  if (kind % 4 == 3) request.presence_penalty = 0.5f;
  if (kind % 2 == 1) request.stop.ignore_eos = false;
  if (kind == 8) {
    request.max_tokens.reset();
    request.n = 1;
    request.score_only = true;
  }
  return request;
}

struct Sent {
  int kind;
  bool cancelled;
  std::shared_ptr<Call> call;
};

// Sends requests of random kinds; cancels some after a few tokens; lets some readers dawdle.
std::vector<Sent> SendMany(Engine& engine, int submitter) {
  Random random(submitter);
  std::vector<Sent> sent;
  for (int i = 0; i < kRequests / kSubmitters; ++i) {
    const std::string id = absl::StrCat(submitter, ".", i);
    const int kind = random.Below(kKinds);
    const auto call = Call::Make(random.Below(4) == 0 ? random.Below(10) : Call::kNeverHold);
    EXPECT_TRUE(engine.Submit(RequestOfKind(kind, id), call->outbox()).ok());
    const bool cancelled = random.Below(4) == 0;
    if (random.Below(3) == 0) std::this_thread::sleep_for(std::chrono::microseconds(random.Below(3000)));
    // A request that is done already is NOT_FOUND, and as good as one that nobody cancels.
    if (cancelled) engine.Cancel("default", id, absl::CancelledError("by the test")).IgnoreError();
    call->Resume();
    sent.push_back({kind, cancelled, call});
  }
  return sent;
}

void ExpectBeginsLike(std::vector<TokenRecord> expected, const std::vector<TokenRecord>& actual) {
  ASSERT_LE(actual.size(), expected.size());
  expected.resize(actual.size());
  ExpectSameTokens(actual, expected);
}

class EngineSoakTest : public testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Depth, EngineSoakTest, testing::Values(1, 2, 3));

TEST_P(EngineSoakTest, EveryRequestSaysWhatItSaysAlone) {
  std::vector<StreamOutput> expected;
  const auto roomy = MakeEngine(MicroOptions());
  for (int kind = 0; kind < kKinds; ++kind)
    expected.push_back(Generate(*roomy, RequestOfKind(kind, "alone")));

  EngineOptions options = MicroOptions();
  options.max_sequences = 9;
  options.max_model_len = 300;
  options.kv_cache_bytes = 10 * (128 << 10) + 20 * 36864;  // 9 rings, a snapshot and 20 blocks
  options.max_step_tokens = 50;
  options.max_output_rows = 20;
  options.pipeline_depth = GetParam();
  options.progress_interval = std::chrono::milliseconds(2);
  const auto engine = MakeEngine(options);
  ASSERT_EQ(engine->memory().global_blocks, 20);

  std::vector<std::vector<Sent>> sent(kSubmitters);
  std::vector<std::thread> submitters;
  for (int i = 0; i < kSubmitters; ++i) {
    submitters.emplace_back([&, i] { sent[i] = SendMany(*engine, 100 * GetParam() + i); });
  }
  for (std::thread& submitter : submitters) submitter.join();

  for (const auto& requests : sent) {
    for (const Sent& request : requests) {
      const StreamOutput output = request.call->Wait();
      const StreamOutput& alone = expected[request.kind];
      SCOPED_TRACE(absl::StrCat("kind ", request.kind));
      if (!request.cancelled) {
        EXPECT_EQ(output.end, absl::OkStatus());
      }
      ExpectBeginsLike(alone.scores, output.scores);
      for (size_t choice = 0; choice < output.choices.size(); ++choice) {
        ExpectBeginsLike(alone.choices[choice].tokens, output.choices[choice].tokens);
      }
      if (!output.end->ok()) continue;
      EXPECT_EQ(output.scores.size(), alone.scores.size());
      EXPECT_EQ(output.summary->usage.completion_tokens, alone.summary->usage.completion_tokens);
    }
  }
  ExpectAllReturned(*engine);
}

}  // namespace
}  // namespace yoio
