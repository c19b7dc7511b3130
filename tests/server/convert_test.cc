// Requests become what the engine reads, events become what callers read.
#include "server/convert.h"

#include <gmock/gmock.h>
#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include "engine/errors.h"
#include "server/version.h"
#include "yoio/v1/inference.pb.h"

namespace yoio {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Pair;

TokenRecord Token(int32_t id) { return {.id = id, .logprob = -1.0f, .top = {}}; }

class ConvertTest : public testing::Test {
 protected:
  ConvertTest() {
    info_.has_tokenizer = true;
    info_.revision = "r1";
  }

  static v1::GenerateRequest Parse(const std::string& text) {
    v1::GenerateRequest message;
    EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &message)) << text;
    return message;
  }
  absl::StatusOr<Request> Convert(const std::string& text) { return ToRequest(Parse(text), model_); }

  // What comes back for `text`, as "CODE REASON message".
  std::string Refusal(const std::string& text) {
    const absl::Status status = Convert(text).status();
    return absl::StatusCodeToString(status.code()) + " " + ReasonOf(status) + " " +
           std::string(status.message());
  }

  ModelInfo info_{};
  ServedModel model_{.info = &info_, .names = {"tiny", "alias"}};
};

TEST_F(ConvertTest, AbsentFieldsStayOpen) {
  const auto request = Convert("text: 'hello'");
  ASSERT_TRUE(request.ok()) << request.status();
  EXPECT_EQ(std::get<std::string>(request->prompt), "hello");
  EXPECT_EQ(request->temperature, std::nullopt);
  EXPECT_EQ(request->top_k, std::nullopt);
  EXPECT_EQ(request->max_tokens, std::nullopt);
  EXPECT_EQ(request->seed, std::nullopt);
  EXPECT_EQ(request->time_budget, std::nullopt);
  EXPECT_EQ(request->n, 1);
  EXPECT_TRUE(request->output_text);
  EXPECT_FALSE(request->output_ids);
  EXPECT_TRUE(request->skip_special_tokens);
  EXPECT_FALSE(request->score_only);
}

TEST_F(ConvertTest, EveryFieldArrives) {
  const auto request = Convert(R"(
      model: 'alias'
      token_ids { ids: [5, 6, 7] }
      sampling { temperature: 0 top_p: 0.5 top_k: 0 min_p: 0.1 repetition_penalty: 1.5 frequency_penalty: -1
                 presence_penalty: 2 seed: 18446744073709551615
                 logit_bias { key: 9 value: -3 } logit_bias { key: 2 value: 4 } }
      stop { max_tokens: 10 min_tokens: 2 ignore_eos: true stop_ids: [3, 4] stop_strings: 'x' stop_strings: 'yz'
             include_stop: true }
      output { text: false ids: true logprobs: true prompt_logprobs: true top_logprobs: 5
               skip_special_tokens: false }
      n: 3
      time_budget { seconds: 1 nanos: 500000000 })");
  ASSERT_TRUE(request.ok()) << request.status();
  EXPECT_THAT(std::get<std::vector<int32_t>>(request->prompt), ElementsAre(5, 6, 7));
  EXPECT_EQ(request->temperature, 0.0f);  // set to zero is not absent
  EXPECT_EQ(request->top_p, 0.5f);
  EXPECT_EQ(request->top_k, 0);
  EXPECT_EQ(request->min_p, 0.1f);
  EXPECT_EQ(request->repetition_penalty, 1.5f);
  EXPECT_EQ(request->frequency_penalty, -1.0f);
  EXPECT_EQ(request->presence_penalty, 2.0f);
  EXPECT_EQ(request->seed, 18446744073709551615u);
  EXPECT_THAT(request->logit_bias, ElementsAre(Pair(2, 4.0f), Pair(9, -3.0f)));
  EXPECT_EQ(request->max_tokens, 10);
  EXPECT_EQ(request->stop.min_tokens, 2);
  EXPECT_TRUE(request->stop.ignore_eos);
  EXPECT_THAT(request->stop.stop_ids, ElementsAre(3, 4));
  EXPECT_THAT(request->stop.stop_strings, ElementsAre("x", "yz"));
  EXPECT_TRUE(request->stop.include_stop);
  EXPECT_FALSE(request->output_text);
  EXPECT_TRUE(request->output_ids);
  EXPECT_TRUE(request->logprobs.output);
  EXPECT_TRUE(request->logprobs.prompt);
  EXPECT_EQ(request->logprobs.top_n, 5);
  EXPECT_FALSE(request->skip_special_tokens);
  EXPECT_EQ(request->n, 3);
  EXPECT_EQ(request->time_budget, std::chrono::milliseconds(1500));
}

TEST_F(ConvertTest, RefusalsNameTheField) {
  EXPECT_THAT(Refusal(""), HasSubstr("INVALID_ARGUMENT BAD_VALUE prompt: expected exactly one"));
  EXPECT_THAT(Refusal("text: 'a' time_budget {}"), HasSubstr("INVALID_ARGUMENT BAD_VALUE time_budget: "));
  EXPECT_THAT(Refusal("text: 'a' time_budget { seconds: -1 }"), HasSubstr("time_budget: "));
  EXPECT_THAT(Refusal("text: 'a' time_budget { seconds: 9223372036854775807 }"), HasSubstr("time_budget: "));
  EXPECT_THAT(Refusal("text: 'a' time_budget { nanos: 1000000000 }"), HasSubstr("time_budget: "));
  EXPECT_THAT(Refusal("text: 'a' stop { max_tokens: 0 }"), HasSubstr("BAD_VALUE stop.max_tokens: "));
  EXPECT_THAT(Refusal("text: 'a' output { top_logprobs: 2 }"), HasSubstr("BAD_VALUE output.top_logprobs: "));
}

TEST_F(ConvertTest, WhatCannotBeHonouredIsUnimplemented) {
  EXPECT_THAT(Refusal("text: 'a' choice { values: 'b' }"),
              HasSubstr("UNIMPLEMENTED UNSUPPORTED_FIELD choice: "));
  EXPECT_THAT(Refusal("text: 'a' regex: 'b'"), HasSubstr("UNIMPLEMENTED UNSUPPORTED_FIELD regex: "));
  EXPECT_THAT(Refusal("text: 'a' json_schema: '{}'"),
              HasSubstr("UNIMPLEMENTED UNSUPPORTED_FIELD json_schema: "));
}

TEST_F(ConvertTest, HowItIsScheduled) {
  const auto plain = Convert("text: 'a' priority: PRIORITY_UNSPECIFIED");
  ASSERT_TRUE(plain.ok()) << plain.status();
  EXPECT_EQ(plain->priority, Priority::kNormal);
  EXPECT_FALSE(plain->cache.bypass);
  EXPECT_EQ(plain->cache.salt, "");
  EXPECT_EQ(plain->targets.total, std::nullopt);
  constexpr char kFields[] = R"(
      text: 'a'
      priority: PRIORITY_HIGH
      cache { bypass: true salt: 'pepper' }
      latency_targets { time_to_first_token { seconds: 2 } time_per_output_token { nanos: 50000000 }
                        total { seconds: 60 } })";
  v1::ScoreRequest score;
  ASSERT_TRUE(google::protobuf::TextFormat::ParseFromString(kFields, &score));
  for (const auto& request : {Convert(kFields), ToRequest(score, model_)}) {
    ASSERT_TRUE(request.ok()) << request.status();
    EXPECT_EQ(request->priority, Priority::kHigh);
    EXPECT_TRUE(request->cache.bypass);
    EXPECT_EQ(request->cache.salt, "pepper");
    EXPECT_EQ(request->targets.time_to_first_token, std::chrono::seconds(2));
    EXPECT_EQ(request->targets.time_per_output_token, std::chrono::milliseconds(50));
    EXPECT_EQ(request->targets.total, std::chrono::minutes(1));
  }
  EXPECT_EQ(Convert("text: 'a' priority: PRIORITY_LOW")->priority, Priority::kLow);
  EXPECT_THAT(Refusal("text: 'a' priority: 9"), HasSubstr("INVALID_ARGUMENT BAD_VALUE priority: "));
  EXPECT_THAT(Refusal("text: 'a' latency_targets { total {} }"),
              HasSubstr("INVALID_ARGUMENT BAD_VALUE latency_targets.total: "));
}

TEST_F(ConvertTest, WithoutTokenizerTextIsUnimplemented) {
  info_.has_tokenizer = false;
  EXPECT_THAT(Refusal("text: 'a'"), HasSubstr("UNIMPLEMENTED UNSUPPORTED_FIELD text: "));
  EXPECT_THAT(Refusal("token_ids { ids: 1 } output { text: true }"), HasSubstr("output.text: "));
  EXPECT_THAT(Refusal("token_ids { ids: 1 } stop { stop_strings: 'a' }"), HasSubstr("stop.stop_strings: "));
  const auto request = Convert("token_ids { ids: 1 }");
  ASSERT_TRUE(request.ok()) << request.status();
  EXPECT_FALSE(request->output_text);
}

TEST_F(ConvertTest, UnknownModelIsNotRepeated) {
  const std::string refusal = Refusal("text: 'a' model: 'secret-name'");
  EXPECT_THAT(refusal, HasSubstr("NOT_FOUND UNKNOWN_MODEL model: "));
  EXPECT_THAT(refusal, HasSubstr("tiny or alias"));
  EXPECT_THAT(refusal, testing::Not(HasSubstr("secret")));
}

TEST_F(ConvertTest, RequestIds) {
  EXPECT_TRUE(CheckRequestId("A-z.0_9:", 128).ok());
  EXPECT_TRUE(CheckRequestId(std::string(128, 'a'), 128).ok());
  for (const std::string& bad : {std::string(), std::string(129, 'a'), std::string("a b"), std::string("a\n"),
                                 std::string("\xc3\xa4"), std::string("a\0b", 3)}) {
    EXPECT_EQ(CheckRequestId(bad, 128).code(), absl::StatusCode::kInvalidArgument) << bad;
  }
}

TEST_F(ConvertTest, ScoreReadsPromptAndGeneratesNothing) {
  v1::ScoreRequest message;
  message.set_text("a text");
  message.set_top_logprobs(4);
  const auto request = ToRequest(message, model_);
  ASSERT_TRUE(request.ok()) << request.status();
  EXPECT_TRUE(request->score_only);
  EXPECT_TRUE(request->logprobs.prompt);
  EXPECT_EQ(request->logprobs.top_n, 4);
  EXPECT_EQ(request->max_tokens, std::nullopt);
  EXPECT_FALSE(request->output_text);
}

TEST_F(ConvertTest, DeltaShowsWhatWasAskedFor) {
  const DeltaEvent delta{.choice = 1,
                         .text = "hi",
                         .tokens = {{.id = 4, .logprob = -1.0f, .top = {{.id = 8, .logprob = -0.1f}}}},
                         .num_tokens = 1};
  std::vector<v1::GenerateResponse> plain, full;
  AppendResponses(delta, {.model = &model_}, plain);
  AppendResponses(delta, {.model = &model_, .ids = true, .logprobs = true}, full);
  ASSERT_EQ(plain.size(), 1u);
  EXPECT_EQ(plain[0].delta().choice(), 1);
  EXPECT_EQ(plain[0].delta().text(), "hi");
  EXPECT_EQ(plain[0].delta().ids_size(), 0);
  EXPECT_EQ(plain[0].delta().tokens_size(), 0);
  ASSERT_EQ(full.size(), 1u);
  EXPECT_THAT(full[0].delta().ids(), ElementsAre(4));
  ASSERT_EQ(full[0].delta().tokens_size(), 1);
  EXPECT_EQ(full[0].delta().tokens(0).logprob(), -1.0f);
  EXPECT_EQ(full[0].delta().tokens(0).top(0).id(), 8);
}

TEST_F(ConvertTest, LongDeltaIsSplitAndLosesNothing) {
  DeltaEvent delta{.choice = 0, .text = std::string(64 << 10, 'x'), .tokens = {}};
  for (int i = 0; i < 5000; ++i) delta.tokens.push_back({.id = i, .top = std::vector<TopLogprob>(20)});
  std::vector<v1::GenerateResponse> messages;
  AppendResponses(delta, {.model = &model_, .ids = true, .logprobs = true}, messages);
  int next = 0;
  std::string text;
  for (const auto& message : messages) {
    EXPECT_LE(message.ByteSizeLong(), kMaxResponseBytes);
    text += message.delta().text();
    for (const int32_t id : message.delta().ids()) EXPECT_EQ(id, next++);
  }
  EXPECT_EQ(next, 5000);
  EXPECT_EQ(text, delta.text);
}

TEST_F(ConvertTest, FinishedNamesWhatMatched) {
  std::vector<v1::GenerateResponse> messages;
  const EventView view{.model = &model_};
  AppendResponses(FinishedEvent{.choice = 0, .reason = FinishReason::kStop, .matched_stop = "END"}, view,
                  messages);
  AppendResponses(
      FinishedEvent{.choice = 1, .reason = FinishReason::kEos, .matched_stop = {}, .matched_id = 0}, view,
      messages);
  AppendResponses(FinishedEvent{.choice = 2, .reason = FinishReason::kLength, .matched_stop = {}}, view,
                  messages);
  EXPECT_EQ(messages[0].finished().reason(), v1::FINISH_REASON_STOP);
  EXPECT_EQ(messages[0].finished().stop_string(), "END");
  EXPECT_EQ(messages[1].finished().reason(), v1::FINISH_REASON_EOS);
  EXPECT_TRUE(messages[1].finished().has_stop_id());
  EXPECT_EQ(messages[2].finished().matched_stop_case(), v1::Finished::MATCHED_STOP_NOT_SET);
}

TEST_F(ConvertTest, SummaryLeavesOutWhatWasNotMeasured) {
  SummaryEvent summary{.usage = {.prompt_tokens = 5, .cached_tokens = 1, .completion_tokens = 1},
                       .timing = {.queue = std::chrono::microseconds(1500),
                                  .prefill_chunks = 2,
                                  .queue_position_on_arrival = 4,
                                  .preemptions = 3,
                                  .recomputed_tokens = 70,
                                  .waited_slots = std::chrono::nanoseconds(1),
                                  .waited_blocks = std::chrono::nanoseconds(2),
                                  .waited_token_budget = std::chrono::nanoseconds(3),
                                  .waited_tenant_share = std::chrono::nanoseconds(4),
                                  .waited_tokenizer = std::chrono::nanoseconds(5)}};
  std::vector<v1::GenerateResponse> messages;
  AppendResponses(summary, {.model = &model_}, messages);
  const v1::Timing& timing = messages[0].summary().timing();
  EXPECT_EQ(messages[0].summary().usage().prompt_tokens(), 5);
  EXPECT_EQ(timing.queue().nanos(), 1500000);
  EXPECT_EQ(messages[0].summary().usage().cached_tokens(), 1);
  EXPECT_EQ(timing.prefill_chunks(), 2);
  EXPECT_EQ(timing.queue_position_on_arrival(), 4);
  EXPECT_EQ(timing.preemptions(), 3);
  EXPECT_EQ(timing.recomputed_tokens(), 70);
  EXPECT_EQ(timing.waited().slots().nanos(), 1);
  EXPECT_EQ(timing.waited().blocks().nanos(), 2);
  EXPECT_EQ(timing.waited().token_budget().nanos(), 3);
  EXPECT_EQ(timing.waited().tenant_share().nanos(), 4);
  EXPECT_EQ(timing.waited().tokenizer().nanos(), 5);
  EXPECT_FALSE(timing.has_time_per_output_token());  // one token has no time between tokens
  EXPECT_FALSE(timing.has_longest_gap());
  EXPECT_FALSE(timing.has_deadline_left());
  EXPECT_EQ(timing.server_version(), kVersion);
  EXPECT_EQ(timing.model_revision(), "r1");

  AppendResponses(summary, {.model = &model_, .deadline = Clock::now() + std::chrono::hours(1)}, messages);
  EXPECT_GT(messages[1].summary().timing().deadline_left().seconds(), 3000);
}

TEST_F(ConvertTest, AnswerCollectsTheStream) {
  v1::GenerateOnceResponse answer;
  const EventView view{.model = &model_, .ids = true};
  MergeIntoAnswer(
      AcceptedEvent{.request_id = "r", .prompt_tokens = 1, .sampling = {}, .max_tokens = 4, .n = 2}, view,
      answer);
  MergeIntoAnswer(DeltaEvent{.choice = 1, .text = "b", .tokens = {Token(2)}}, view, answer);
  MergeIntoAnswer(DeltaEvent{.choice = 0, .text = "a", .tokens = {Token(1)}}, view, answer);
  MergeIntoAnswer(DeltaEvent{.choice = 1, .text = "B", .tokens = {Token(3)}}, view, answer);
  MergeIntoAnswer(
      FinishedEvent{.choice = 1, .reason = FinishReason::kEos, .matched_stop = {}, .matched_id = 3}, view,
      answer);
  ASSERT_EQ(answer.choices_size(), 2);
  EXPECT_EQ(answer.choices(0).text(), "a");
  EXPECT_EQ(answer.choices(1).index(), 1);
  EXPECT_EQ(answer.choices(1).text(), "bB");
  EXPECT_THAT(answer.choices(1).ids(), ElementsAre(2, 3));
  EXPECT_EQ(answer.choices(1).finish_reason(), v1::FINISH_REASON_EOS);
  EXPECT_EQ(answer.choices(1).stop_id(), 3);
}

}  // namespace
}  // namespace yoio
