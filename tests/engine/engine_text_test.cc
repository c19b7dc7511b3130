// The text side of a whole engine: prompts, output and stop strings through a real tokenizer.
#include <unistd.h>

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/engine.h"
#include "engine/tokenizer/tokenizer.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/engine/engine_harness.h"
#include "tests/engine/hanging_backend.h"

namespace yoio {
namespace {

using test::Call;
using test::ExpectAllReturned;
using test::Gate;
using test::Generate;
using test::IdsRequest;
using test::MakeEngine;
using test::MicroOptions;
using test::StreamOutput;
using test::Submit;
using testing::HasSubstr;

constexpr char kPrompt[] = "The quick brown fox, and 12 more. \xf0\x9f\xa6\x8a";

// The golden model micro_gqa (vocabulary 320) beside a tokenizer of 315 tokens.
class EngineTextTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    namespace fs = std::filesystem;
    dir_ = new std::string(absl::StrCat(testing::TempDir(), "/engine_text_test_model.", getpid()));
    fs::remove_all(*dir_);
    fs::copy(YOIO_SOURCE_DIR "/tests/golden/micro_gqa", *dir_);
    fs::copy(YOIO_SOURCE_DIR "/tests/engine/testdata/gpt2.json", *dir_ + "/tokenizer.json");
  }
  static void TearDownTestSuite() {
    std::filesystem::remove_all(*dir_);
    delete dir_;
  }

  EngineTextTest() {
    EngineOptions options = MicroOptions();
    options.model_dir = *dir_;
    engine_ = MakeEngine(options);
  }

  static Request TextRequest(const std::string& id, int max_tokens) {
    Request request = IdsRequest(id, 1, max_tokens);
    request.prompt = std::string(kPrompt);
    request.output_text = true;
    return request;
  }

  static std::string* dir_;
  std::unique_ptr<Engine> engine_;
};

std::string* EngineTextTest::dir_ = nullptr;

TEST_F(EngineTextTest, TextGoesInAndComesOut) {
  EXPECT_TRUE(engine_->model().has_tokenizer);
  const auto ids = engine_->Tokenize(kPrompt);
  ASSERT_TRUE(ids.ok()) << ids.status();
  EXPECT_EQ(*engine_->Detokenize(*ids, true), kPrompt);

  const StreamOutput text = Generate(*engine_, TextRequest("text", 80));
  EXPECT_EQ(text.accepted->prompt_tokens, static_cast<int32_t>(ids->size()));
  EXPECT_EQ(text.choices[0].text, *engine_->Detokenize(text.choices[0].ids(), true));

  Request same = TextRequest("ids", 80);
  same.prompt = *ids;
  EXPECT_EQ(Generate(*engine_, same).choices[0].ids(), text.choices[0].ids());
}

TEST_F(EngineTextTest, IdsStayAwayUnlessAskedFor) {
  Request request = TextRequest("text", 20);
  request.output_ids = false;
  const StreamOutput output = Generate(*engine_, request);
  EXPECT_TRUE(output.choices[0].tokens.empty());
  EXPECT_FALSE(output.choices[0].text.empty());
  EXPECT_EQ(output.summary->usage.completion_tokens, 20);
}

TEST_F(EngineTextTest, AStopStringEndsItsChoiceAlone) {
  Request request = TextRequest("free", 100);
  request.temperature = 1.0f;
  request.seed = 3;
  request.n = 3;
  const StreamOutput free = Generate(*engine_, request);
  // Something that choice 1 writes and the others do not.
  const std::string& text = free.choices[1].text;
  std::string stop;
  for (size_t begin = text.size() / 3; stop.empty() && begin + 4 < text.size(); ++begin) {
    const std::string piece = text.substr(begin, 4);
    const bool elsewhere = free.choices[0].text.find(piece) != std::string::npos ||
                           free.choices[2].text.find(piece) != std::string::npos;
    if (!elsewhere && piece.find('\xef') == std::string::npos) stop = piece;
  }
  ASSERT_FALSE(stop.empty());

  request.stop.stop_strings = {stop};
  const StreamOutput stopped = Generate(*engine_, request);
  EXPECT_EQ(stopped.choices[1].text, text.substr(0, text.find(stop)));
  EXPECT_EQ(stopped.choices[1].finished->reason, FinishReason::kStop);
  EXPECT_EQ(stopped.choices[1].finished->matched_stop, stop);
  for (const int choice : {0, 2}) {
    EXPECT_EQ(stopped.choices[choice].text, free.choices[choice].text);
    EXPECT_EQ(stopped.choices[choice].finished->reason, FinishReason::kLength);
  }
  int32_t tokens = 0;
  for (const auto& choice : stopped.choices) tokens += static_cast<int32_t>(choice.tokens.size());
  EXPECT_EQ(stopped.summary->usage.completion_tokens, tokens) << "what ran beyond the stop is not counted";

  request.stop.include_stop = true;
  EXPECT_EQ(Generate(*engine_, request).choices[1].text, text.substr(0, text.find(stop) + stop.size()));
  ExpectAllReturned(*engine_);
}

TEST_F(EngineTextTest, IdsBeyondTheTokenizerAreSilent) {
  Request request = TextRequest("silent", 5);
  request.logit_bias = {{318, 1000.0f}};
  const StreamOutput output = Generate(*engine_, request);
  EXPECT_EQ(output.choices[0].ids(), std::vector<int32_t>(5, 318));
  EXPECT_EQ(output.choices[0].text, "");
}

TEST_F(EngineTextTest, APromptTooLongIsRefusedOnceItIsTokenized) {
  Request request = TextRequest("long", 5);
  request.prompt = std::string(20000, 'q');
  const auto call = Submit(*engine_, request);
  const StreamOutput output = call->Wait();
  EXPECT_FALSE(output.accepted.has_value());
  EXPECT_EQ(output.end->code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(output.end->message()), HasSubstr("prompt"));
  Generate(*engine_, TextRequest("long", 5));  // the id is free again
}

TEST_F(EngineTextTest, CancelReachesARequestThatIsStillTokenized) {
  for (int i = 0; i < 20; ++i) {
    Request request = TextRequest("tokenizing", 1000);
    request.prompt = std::string(3000, 'q');
    const auto call = Submit(*engine_, request);
    EXPECT_TRUE(engine_->Cancel("default", "tokenizing", absl::CancelledError("gone")).ok());
    EXPECT_EQ(call->Wait().end->code(), absl::StatusCode::kCancelled);
  }
  ExpectAllReturned(*engine_);
}

TEST_F(EngineTextTest, TheStateTellsOfPromptsBeingTokenized) {
  Gate gate;
  gate.Close();
  for (int i = 0; i < MicroOptions().text_threads; ++i) {
    ASSERT_TRUE(engine_->RunText([&] { gate.Pass(); }).ok());
  }
  const auto call = Submit(*engine_, TextRequest("tokenizing", 5));
  const auto state = engine_->DumpState(10, Clock::now() + std::chrono::seconds(30));
  gate.Open();
  ASSERT_TRUE(state.ok()) << state.status();
  ASSERT_EQ(state->requests.size(), 1);
  EXPECT_EQ(state->requests[0].id, "tokenizing");
  EXPECT_EQ(state->requests[0].phase, Phase::kQueued);
  EXPECT_EQ(state->requests[0].queue_position, 1);
  EXPECT_GT(state->requests[0].age, Duration::zero());
  const Timing timing = call->Wait().summary->timing;
  EXPECT_GE(timing.tokenize, timing.waited_tokenizer);
  EXPECT_GT(timing.waited_tokenizer, Duration::zero());
  EXPECT_EQ(timing.time_to_first_token, timing.tokenize + timing.queue + timing.prefill);
}

TEST_F(EngineTextTest, DestructionWaitsForPromptsBeingTokenized) {
  std::vector<std::shared_ptr<Call>> calls;
  for (int i = 0; i < 20; ++i) {
    Request request = TextRequest(absl::StrCat(i), 1000);
    request.prompt = std::string(3000, 'q');
    calls.push_back(Submit(*engine_, request));
  }
  engine_.reset();
  for (const auto& call : calls) EXPECT_EQ(call->Wait().end->code(), absl::StatusCode::kUnavailable);
}

TEST_F(EngineTextTest, DetokenizeChecksItsIds) {
  EXPECT_TRUE(engine_->Detokenize({0, 319}, true).ok());
  for (const int32_t id : {-1, 320}) {
    EXPECT_EQ(engine_->Detokenize({id}, true).status().code(), absl::StatusCode::kInvalidArgument);
  }
}

}  // namespace
}  // namespace yoio
