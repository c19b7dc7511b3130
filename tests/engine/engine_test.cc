// What a whole engine answers.
#include "engine/engine.h"

#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/engine/engine_harness.h"

namespace yoio {
namespace {

using test::ExpectAllReturned;
using test::ExpectSameTokens;
using test::Generate;
using test::IdsRequest;
using test::MakeEngine;
using test::MicroOptions;
using test::Refusal;
using test::StreamOutput;
using test::Submit;
using testing::HasSubstr;

// More tokens than a request gets whose reader holds.
constexpr int kLong = 3000;

TEST(EngineTest, AStreamTellsItsWholeStory) {
  const auto engine = MakeEngine(MicroOptions());
  Request request = IdsRequest("story", 70, 9);
  request.seed = 5;
  const StreamOutput output = Generate(*engine, request);
  ASSERT_TRUE(output.accepted.has_value() && output.summary.has_value());
  EXPECT_EQ(output.accepted->request_id, "story");
  EXPECT_EQ(output.accepted->prompt_tokens, 70);
  EXPECT_EQ(output.accepted->max_tokens, 9);
  EXPECT_EQ(output.accepted->n, 1);
  EXPECT_EQ(output.accepted->sampling.seed, 5u);
  EXPECT_EQ(output.choices[0].tokens.size(), 9u);
  EXPECT_EQ(output.choices[0].finished->reason, FinishReason::kLength);
  EXPECT_EQ(output.summary->usage.prompt_tokens, 70);
  EXPECT_EQ(output.summary->usage.completion_tokens, 9);
  const Timing& timing = output.summary->timing;
  EXPECT_EQ(timing.prefill_chunks, 1);
  EXPECT_EQ(timing.decode_steps, 8);
  EXPECT_GT(timing.time_to_first_token, Duration::zero());
  EXPECT_GE(timing.total, timing.time_to_first_token + timing.decode);
  EXPECT_EQ(timing.time_per_output_token, timing.decode / 8);
  ExpectAllReturned(*engine);
  const Load load = engine->load();
  EXPECT_EQ(load.prompt_tokens, 70);
  EXPECT_EQ(load.generated_tokens, 9);
  EXPECT_EQ(load.steps, 9);
}

TEST(EngineTest, StopIdsAndEndOfSequence) {
  const auto engine = MakeEngine(MicroOptions());
  const std::vector<int32_t> free = Generate(*engine, IdsRequest("free", 40, 60)).choices[0].ids();
  // The first token that is new at its place, so that it stops nothing earlier.
  size_t place = 5;
  while (std::find(free.begin(), free.begin() + place, free[place]) != free.begin() + place) ++place;

  Request request = IdsRequest("stop", 40, 60);
  request.stop.stop_ids = {free[place]};
  const StreamOutput stopped = Generate(*engine, request);
  EXPECT_EQ(stopped.choices[0].ids(), std::vector<int32_t>(free.begin(), free.begin() + place + 1));
  EXPECT_EQ(stopped.choices[0].finished->reason, FinishReason::kStop);
  EXPECT_EQ(stopped.choices[0].finished->matched_id, free[place]);
  EXPECT_EQ(stopped.summary->usage.completion_tokens, static_cast<int32_t>(place) + 1);

  request.stop.min_tokens = static_cast<int32_t>(place) + 4;
  const StreamOutput later = Generate(*engine, request);
  EXPECT_GE(later.choices[0].tokens.size(), place + 4);
  EXPECT_NE(later.choices[0].ids()[place], free[place]) << "banned before min_tokens";

  // The model's end of sequence is id 0: made likely, it ends a request that does not ignore it.
  request = IdsRequest("eos", 40, 60);
  request.stop.ignore_eos = false;
  request.logit_bias = {{0, 100.0f}};
  const StreamOutput ended = Generate(*engine, request);
  EXPECT_EQ(ended.choices[0].ids(), std::vector<int32_t>{0});
  EXPECT_EQ(ended.choices[0].finished->reason, FinishReason::kEos);
  EXPECT_EQ(ended.choices[0].finished->matched_id, 0);
  request.stop.ignore_eos = true;
  EXPECT_EQ(Generate(*engine, request).choices[0].ids(), std::vector<int32_t>(60, 0));
  ExpectAllReturned(*engine);
}

TEST(EngineTest, LogprobsCarryTheirAlternatives) {
  const auto engine = MakeEngine(MicroOptions());
  Request request = IdsRequest("logprobs", 30, 10);
  request.output_ids = false;
  request.logprobs = {.output = true, .prompt = false, .top_n = 5};
  const StreamOutput output = Generate(*engine, request);
  ASSERT_EQ(output.choices[0].tokens.size(), 10u);
  for (const TokenRecord& token : output.choices[0].tokens) {
    ASSERT_EQ(token.top.size(), 5u);
    EXPECT_EQ(token.top[0].id, token.id) << "greedy takes the best";
    EXPECT_EQ(token.top[0].logprob, token.logprob);
    EXPECT_LT(token.logprob, 0);
    EXPECT_TRUE(std::is_sorted(token.top.begin(), token.top.end(),
                               [](const auto& a, const auto& b) { return a.logprob > b.logprob; }));
  }
  EXPECT_TRUE(output.scores.empty());
}

TEST(EngineTest, ScoresAgreeWithThemselvesHoweverTheyAreCut) {
  EngineOptions options = MicroOptions();
  const auto whole = MakeEngine(options);
  options.max_output_rows = 100;  // 1,500 prompt tokens take 15 steps and more
  const auto cut = MakeEngine(options);

  Request score = IdsRequest("score", 1500, 1);
  score.max_tokens.reset();
  score.score_only = true;
  score.logprobs.top_n = 2;
  const StreamOutput expected = Generate(*whole, score);
  ASSERT_EQ(expected.scores.size(), 1499u);
  EXPECT_EQ(expected.scores[0].id, std::get<std::vector<int32_t>>(score.prompt)[1]);
  EXPECT_TRUE(expected.choices[0].tokens.empty());
  EXPECT_EQ(expected.summary->usage.completion_tokens, 0);
  EXPECT_EQ(expected.summary->usage.prompt_tokens, 1500);
  ExpectSameTokens(Generate(*cut, score).scores, expected.scores);

  Request generate = IdsRequest("generate", 1500, 3);
  generate.logprobs.prompt = true;
  generate.logprobs.top_n = 2;
  const StreamOutput both = Generate(*cut, generate);
  ExpectSameTokens(both.scores, expected.scores);
  EXPECT_EQ(both.choices[0].tokens.size(), 3u);
  ExpectAllReturned(*cut);
}

TEST(EngineTest, IdsAreTakenWhileTheirRequestLives) {
  const auto engine = MakeEngine(MicroOptions());
  const auto first = Submit(*engine, IdsRequest("id", 10, kLong), /*hold_after=*/0);
  EXPECT_EQ(Refusal(*engine, IdsRequest("id", 10, 5)).code(), absl::StatusCode::kAlreadyExists);
  Request neighbour = IdsRequest("id", 10, 5);
  neighbour.tenant = "neighbour";
  Generate(*engine, neighbour);
  EXPECT_TRUE(engine->Cancel("default", "id", absl::CancelledError("gone")).ok());
  first->Resume();
  first->Wait();
  Generate(*engine, IdsRequest("id", 10, 5));
}

TEST(EngineTest, BadRequestsComeBackAtOnce) {
  EngineOptions options = MicroOptions();
  options.max_model_len = 500;
  options.kv_cache_bytes = (2 << 20) + 8 * 36864;  // 16 rings of 128 KiB and 8 blocks
  options.max_sequences = 16;
  const auto engine = MakeEngine(options);
  Request outside = IdsRequest("x", 3, 5);
  std::get<std::vector<int32_t>>(outside.prompt)[1] = 256;
  EXPECT_THAT(std::string(Refusal(*engine, outside).message()),
              HasSubstr("prompt must hold token ids in [0, 256)"));
  EXPECT_EQ(Refusal(*engine, IdsRequest("x", 490, 11)).code(), absl::StatusCode::kInvalidArgument);
  Request wide = IdsRequest("x", 400, 90);
  wide.n = 16;
  const absl::Status status = Refusal(*engine, wide);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("more of the cache than there is"));
  Request text = IdsRequest("x", 1, 1);
  text.prompt = std::string("text");
  EXPECT_EQ(Refusal(*engine, text).code(), absl::StatusCode::kUnimplemented);
  EXPECT_EQ(engine->Tokenize("text").status().code(), absl::StatusCode::kUnimplemented);
  EXPECT_EQ(engine->Detokenize({1}, true).status().code(), absl::StatusCode::kUnimplemented);
  Generate(*engine, IdsRequest("x", 10, 5));  // the id is free, and everybody else is served
}

TEST(EngineTest, ProgressWhileNothingElseIsHeard) {
  EngineOptions options = MicroOptions();
  options.max_sequences = 1;
  options.progress_interval = std::chrono::milliseconds(1);
  const auto engine = MakeEngine(options);
  const auto first = Submit(*engine, IdsRequest("first", 20, 300));
  const StreamOutput waited = Generate(*engine, IdsRequest("waits", 20, 5));
  EXPECT_GT(waited.progress, 0);
  EXPECT_EQ(first->Wait().end, absl::OkStatus());
}

TEST(EngineCreateTest, SaysWhatIsWrong) {
  const auto error = [](auto set) {
    EngineOptions options = MicroOptions();
    set(options);
    return Engine::Create(options).status();
  };
  EXPECT_EQ(error([](EngineOptions& options) { options.model_dir = "/nowhere"; }).code(),
            absl::StatusCode::kNotFound);
  EXPECT_EQ(error([](EngineOptions& options) { options.tensor_parallel_size = 3; }).code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(error([](EngineOptions& options) { options.kv_cache_bytes = 1000; }).code(),
            absl::StatusCode::kResourceExhausted);
  EXPECT_FALSE(error([](EngineOptions& options) { options.device = Device::kCuda; }).ok())
      << "not in this build";
}

TEST(EngineCreateTest, TellsHowFarLoadingHasCome) {
  EngineOptions options = MicroOptions();
  options.tensor_parallel_size = 2;
  int64_t last = 0, total = -1;
  options.on_progress = [&](std::string_view what, int64_t done, int64_t of) {
    EXPECT_EQ(what, "loading weights");
    EXPECT_GE(done, last);
    last = done;
    total = of;
  };
  MakeEngine(options);
  EXPECT_EQ(last, total);
}

TEST(EngineCreateTest, DummyWeightsNeedNothingButAConfig) {
  const std::string dir = absl::StrCat(testing::TempDir(), "/engine_test_dummy_model.", getpid());
  std::filesystem::remove_all(dir);
  std::filesystem::create_directory(dir);
  std::filesystem::copy(YOIO_SOURCE_DIR "/tests/golden/micro_gqa/config.json", dir);
  EngineOptions options = MicroOptions();
  options.model_dir = dir;
  EXPECT_EQ(Engine::Create(options).status().code(), absl::StatusCode::kNotFound) << "no weights";
  options.load_format = LoadFormat::kDummy;
  const auto alone = MakeEngine(options);
  options.tensor_parallel_size = 2;
  const auto shared = MakeEngine(options);
  EXPECT_EQ(Generate(*shared, IdsRequest("x", 100, 20)).choices[0].ids(),
            Generate(*alone, IdsRequest("x", 100, 20)).choices[0].ids());
  std::filesystem::remove_all(dir);
}

TEST(EngineCreateTest, DryRunPlansWhatCreateBuilds) {
  EngineOptions options = MicroOptions();
  options.tensor_parallel_size = 2;
  const auto plan = Engine::DryRun(options);
  ASSERT_TRUE(plan.ok()) << plan.status();
  const auto engine = MakeEngine(options);
  EXPECT_EQ(plan->global_blocks, engine->memory().global_blocks);
  EXPECT_EQ(plan->cache_bytes, engine->memory().cache_bytes);
  EXPECT_EQ(plan->ranks, 2);
  EXPECT_EQ(engine->model().vocab_size, 256);
  EXPECT_EQ(engine->model().eos_ids, std::vector<int32_t>{0});
  EXPECT_FALSE(engine->model().has_tokenizer);
  EXPECT_EQ(engine->limits().max_sequences, options.max_sequences);
}

}  // namespace
}  // namespace yoio
