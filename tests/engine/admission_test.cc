#include "engine/admission.h"

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace yoio {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr int32_t kMax = std::numeric_limits<int32_t>::max();
constexpr int32_t kMin = std::numeric_limits<int32_t>::min();

class AdmissionTest : public testing::Test {
 protected:
  AdmissionTest() { request_.prompt = std::vector<int32_t>{1, 2, 3}; }

  absl::Status Check() const { return CheckRequest(request_, model_, limits_); }

  // The request as it stands is refused with INVALID_ARGUMENT, and the message names `field`.
  void ExpectRefused(const std::string& field) const {
    const absl::Status status = Check();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << field << ": " << status;
    EXPECT_TRUE(status.message().substr(0, field.size()) == absl::string_view(field)) << status;
  }

  template <typename T>
  void ExpectBounds(const std::string& field, std::optional<T>& option, const std::vector<T>& good,
                    const std::vector<T>& bad) {
    for (const T& value : good) {
      option = value;
      EXPECT_TRUE(Check().ok()) << field << " = " << value << ": " << Check();
    }
    for (const T& value : bad) {
      option = value;
      SCOPED_TRACE(value);
      ExpectRefused(field);
    }
    option.reset();
  }

  SequenceGroup Resolved() const {
    SequenceGroup group;
    Resolve(request_, std::get<std::vector<int32_t>>(request_.prompt), model_, group);
    return group;
  }

  Request request_;
  ModelInfo model_{.architecture = "clsa",
                   .revision = "",
                   .max_model_len = 100,
                   .vocab_size = 50,
                   .num_layers = 2,
                   .hidden_size = 8,
                   .sliding_window = 4,
                   .index_top_k = 4,
                   .eos_ids = {48, 49},
                   .has_tokenizer = true,
                   .defaults = {},
                   .default_max_tokens = 30};
  Limits limits_{.max_request_bytes = 1000,
                 .max_sequences = 64,
                 .max_step_tokens = 64,
                 .max_request_time = std::chrono::hours(1),
                 .max_queued_requests = 10,
                 .max_queued_tokens = 1000,
                 .tenant = {},
                 .max_token_gap = {}};
};

TEST_F(AdmissionTest, TakesAPlainRequest) { EXPECT_TRUE(Check().ok()) << Check(); }

TEST_F(AdmissionTest, SamplingBounds) {
  ExpectBounds<float>("temperature", request_.temperature, {0, 1, 100}, {-0.01f, kNaN, kInf, -kInf});
  ExpectBounds<float>("top_p", request_.top_p, {0.001f, 1}, {0, -1, 1.001f, kNaN, kInf, -kInf});
  ExpectBounds<int32_t>("top_k", request_.top_k, {0, 1, 1000000, kMax}, {-1, kMin});
  ExpectBounds<float>("min_p", request_.min_p, {0, 0.5f, 1}, {-0.1f, 1.1f, kNaN, kInf});
  ExpectBounds<float>("repetition_penalty", request_.repetition_penalty, {0.1f, 1, 10},
                      {0, -1, kNaN, kInf, -kInf});
  ExpectBounds<float>("frequency_penalty", request_.frequency_penalty, {-2, 0, 2}, {-2.1f, 2.1f, kNaN, kInf});
  ExpectBounds<float>("presence_penalty", request_.presence_penalty, {-2, 0, 2}, {-2.1f, 2.1f, kNaN, -kInf});
}

TEST_F(AdmissionTest, LengthBounds) {
  ExpectBounds<int32_t>("max_tokens", request_.max_tokens, {1, 97}, {0, -1, kMin});
  request_.max_tokens = 10;
  for (const int32_t good : {0, 1, 10}) {
    request_.stop.min_tokens = good;
    EXPECT_TRUE(Check().ok()) << Check();
  }
  for (const int32_t bad : {-1, kMin, 11, kMax}) {
    request_.stop.min_tokens = bad;
    ExpectRefused("min_tokens");
  }
}

TEST_F(AdmissionTest, NumberOfChoices) {
  for (const int32_t good : {1, 16}) {
    request_.n = good;
    EXPECT_TRUE(Check().ok()) << Check();
  }
  for (const int32_t bad : {0, -1, 17, kMax}) {
    request_.n = bad;
    ExpectRefused("n must be in [1, 16]");
  }
  limits_.max_sequences = 3;
  request_.n = 4;
  ExpectRefused("n must be in [1, 3]");
}

TEST_F(AdmissionTest, TopLogprobs) {
  request_.logprobs.top_n = 20;
  EXPECT_TRUE(Check().ok()) << Check();
  for (const int32_t bad : {-1, 21}) {
    request_.logprobs.top_n = bad;
    ExpectRefused("top_logprobs");
  }
  model_.vocab_size = 10;
  request_.logprobs.top_n = 11;
  ExpectRefused("top_logprobs");
}

TEST_F(AdmissionTest, LogitBias) {
  request_.logit_bias = {{0, -100.0f}, {49, 5.0f}};
  EXPECT_TRUE(Check().ok()) << Check();
  request_.logit_bias = {{7, 1.0f}, {8, 1.0f}, {7, 2.0f}};
  ExpectRefused("logit_bias must name each token id once");
  for (const int32_t id : {-1, 50, kMax, kMin}) {
    request_.logit_bias = {{id, 1.0f}};
    ExpectRefused("logit_bias");
  }
  for (const float bias : {kNaN, kInf, -kInf}) {
    request_.logit_bias = {{1, bias}};
    ExpectRefused("logit_bias must be finite");
  }
  model_.vocab_size = 5000;
  request_.logit_bias.clear();
  for (int32_t id = 0; id < 1024; ++id) request_.logit_bias.emplace_back(id, 1.0f);
  EXPECT_TRUE(Check().ok()) << Check();
  request_.logit_bias.emplace_back(1024, 1.0f);
  ExpectRefused("logit_bias must have at most 1024 entries");
}

TEST_F(AdmissionTest, StopIds) {
  request_.stop.stop_ids = {0, 49};
  EXPECT_TRUE(Check().ok()) << Check();
  for (const int32_t id : {-1, 50}) {
    request_.stop.stop_ids = {3, id};
    ExpectRefused("stop_ids must hold token ids in [0, 50)");
  }
  request_.stop.stop_ids.assign(65, 1);
  ExpectRefused("stop_ids must have at most 64 ids");
}

TEST_F(AdmissionTest, StopStrings) {
  request_.stop.stop_strings.assign(16, std::string(256, 'x'));
  EXPECT_TRUE(Check().ok()) << Check();
  request_.stop.stop_strings.assign(17, "x");
  ExpectRefused("stop_strings must have at most 16 strings, got 17");
  request_.stop.stop_strings = {"fine", ""};
  ExpectRefused("stop_strings must hold no empty string");
  request_.stop.stop_strings = {std::string(257, 'x')};
  ExpectRefused("stop_strings must have at most 256 bytes in each string, got 257");
}

TEST_F(AdmissionTest, TimeBudget) {
  request_.time_budget = std::chrono::milliseconds(1);
  EXPECT_TRUE(Check().ok()) << Check();
  request_.time_budget = Duration::max();
  EXPECT_TRUE(Check().ok()) << Check();
  for (const Duration bad : {Duration::zero(), Duration(-1), Duration::min()}) {
    request_.time_budget = bad;
    ExpectRefused("time_budget");
  }
}

TEST_F(AdmissionTest, LatencyTargets) {
  LatencyTargets& targets = request_.targets;
  const std::vector<Duration> good = {Duration(1), Duration::max()}, bad = {Duration::zero(), Duration(-1)};
  const auto check = [&](const std::string& field, std::optional<Duration>& target) {
    for (const Duration value : good) {
      target = value;
      EXPECT_TRUE(Check().ok()) << Check();
    }
    for (const Duration value : bad) {
      target = value;
      ExpectRefused(field);
    }
    target.reset();
  };
  check("latency_targets.time_to_first_token", targets.time_to_first_token);
  check("latency_targets.time_per_output_token", targets.time_per_output_token);
  check("latency_targets.total", targets.total);
}

TEST_F(AdmissionTest, CacheSalt) {
  request_.cache.salt = std::string(128, 's');
  EXPECT_TRUE(Check().ok()) << Check();
  request_.cache.salt += 's';
  ExpectRefused("cache.salt must have at most 128 bytes, got 129");
}

TEST_F(AdmissionTest, ResolveTellsTheSchedulerWhoAndWhen) {
  request_.tenant = "tenant";
  request_.tenant_limits = {.max_requests = 3, .weight = 2};
  request_.priority = Priority::kHigh;
  request_.arrival = TimePoint(std::chrono::hours(5));
  request_.cache = {.bypass = true, .salt = "pepper"};
  const SequenceGroup group = Resolved();
  EXPECT_EQ(group.tenant, "tenant");
  EXPECT_EQ(group.tenant_limits, request_.tenant_limits);
  EXPECT_EQ(group.priority, Priority::kHigh);
  EXPECT_EQ(group.arrival, request_.arrival);
  EXPECT_TRUE(group.cache.bypass);
  EXPECT_EQ(group.cache.salt, "pepper");
}

TEST_F(AdmissionTest, Prompts) {
  request_.prompt = std::string();
  ExpectRefused("prompt must not be empty");
  request_.prompt = std::vector<int32_t>();
  ExpectRefused("prompt must not be empty");
  for (const int32_t id : {-1, 50, kMin, kMax}) {
    request_.prompt = std::vector<int32_t>{1, id};
    ExpectRefused("prompt must hold token ids in [0, 50)");
  }
  request_.prompt = std::string(1000, 'x');
  EXPECT_TRUE(Check().ok()) << "its tokens are counted later";
  request_.prompt = std::string(1001, 'x');
  ExpectRefused("prompt must have at most 1000 bytes, got 1001");
}

TEST_F(AdmissionTest, RoomForPromptAndOutput) {
  request_.prompt = std::vector<int32_t>(99, 1);
  EXPECT_TRUE(Check().ok()) << "one token fits, and max_tokens is left open";
  request_.max_tokens = 1;
  EXPECT_TRUE(Check().ok()) << Check();
  request_.max_tokens = 2;
  ExpectRefused("prompt + max_tokens must be at most 100 tokens, got 99 + 2");
  request_.max_tokens = kMax;
  ExpectRefused("prompt + max_tokens");
  request_.max_tokens.reset();
  request_.prompt = std::vector<int32_t>(100, 1);
  ExpectRefused("prompt must leave room for output: at most 99 tokens, got 100");
}

TEST_F(AdmissionTest, Scoring) {
  request_.score_only = true;
  request_.prompt = std::vector<int32_t>(100, 1);
  EXPECT_TRUE(Check().ok()) << "nothing is generated";
  request_.prompt = std::vector<int32_t>(101, 1);
  ExpectRefused("prompt must have at most 100 tokens, got 101");
  request_.prompt = std::vector<int32_t>{1};
  ExpectRefused("prompt must have at least 2 tokens to be scored");
}

TEST_F(AdmissionTest, TextNeedsATokenizer) {
  model_.has_tokenizer = false;
  const auto expect_unimplemented = [&](const std::string& field) {
    EXPECT_EQ(Check().code(), absl::StatusCode::kUnimplemented) << field;
    EXPECT_THAT(std::string(Check().message()), HasSubstr(field));
  };
  expect_unimplemented("output_text");
  request_.output_text = false;
  EXPECT_TRUE(Check().ok()) << Check();
  request_.stop.stop_strings = {"x"};
  expect_unimplemented("stop_strings");
  request_.stop.stop_strings.clear();
  request_.prompt = std::string("x");
  expect_unimplemented("text");
  request_.prompt = std::vector<int32_t>{1, 2};
  request_.output_text = true;
  request_.score_only = true;
  EXPECT_TRUE(Check().ok()) << "scores are not text";
}

TEST_F(AdmissionTest, MessagesNeverRepeatWhatTheCallerWrote) {
  const std::string canary = "CANARY-7f3a";
  std::string padded = canary;
  padded.resize(2000, 'z');
  std::vector<absl::Status> statuses;
  request_.prompt = padded;
  statuses.push_back(Check());
  request_.prompt = canary;
  request_.stop.stop_strings = {padded};
  statuses.push_back(Check());
  request_.stop.stop_strings = {canary, ""};
  statuses.push_back(Check());
  model_.has_tokenizer = false;
  statuses.push_back(Check());
  for (const absl::Status& status : statuses) {
    EXPECT_FALSE(status.ok());
    EXPECT_THAT(status.ToString(), AllOf(Not(HasSubstr("CANARY")), Not(HasSubstr("zz"))));
  }
}

TEST_F(AdmissionTest, ResolveFillsInTheModelsDefaults) {
  model_.defaults.temperature = 0.7f;
  model_.defaults.top_p = 0.9f;
  model_.defaults.top_k = 20;
  model_.defaults.min_p = 0.05f;
  model_.defaults.repetition_penalty = 1.1f;
  const SequenceGroup group = Resolved();
  EXPECT_EQ(group.sampling.temperature, 0.7f);
  EXPECT_EQ(group.sampling.top_p, 0.9f);
  EXPECT_EQ(group.sampling.top_k, 20);
  EXPECT_EQ(group.sampling.min_p, 0.05f);
  EXPECT_EQ(group.sampling.repetition_penalty, 1.1f);
  EXPECT_EQ(group.max_tokens, 30);
  EXPECT_EQ(group.prompt, (std::vector<int32_t>{1, 2, 3}));
  EXPECT_THAT(group.stop_ids, ElementsAre(48, 49));
  EXPECT_EQ(group.n, 1);
  EXPECT_FALSE(group.score_only);
}

TEST_F(AdmissionTest, ResolveKeepsWhatTheCallerChose) {
  model_.defaults.temperature = 0.7f;
  request_.temperature = 0.0f;
  request_.top_p = 0.5f;
  request_.top_k = 3;
  request_.min_p = 0.1f;
  request_.repetition_penalty = 1.2f;
  request_.frequency_penalty = -1.0f;
  request_.presence_penalty = 1.5f;
  request_.seed = 0;
  request_.logit_bias = {{4, -2.0f}};
  request_.max_tokens = 7;
  request_.stop.min_tokens = 2;
  request_.stop.stop_ids = {9};
  request_.n = 3;
  request_.logprobs = {.output = true, .prompt = true, .top_n = 5};
  const SequenceGroup group = Resolved();
  EXPECT_EQ(group.sampling.temperature, 0.0f);
  EXPECT_EQ(group.sampling.top_p, 0.5f);
  EXPECT_EQ(group.sampling.top_k, 3);
  EXPECT_EQ(group.sampling.min_p, 0.1f);
  EXPECT_EQ(group.sampling.repetition_penalty, 1.2f);
  EXPECT_EQ(group.sampling.frequency_penalty, -1.0f);
  EXPECT_EQ(group.sampling.presence_penalty, 1.5f);
  EXPECT_EQ(group.sampling.seed, 0u) << "a seed of 0 is a seed";
  EXPECT_EQ(group.sampling.logit_bias, request_.logit_bias);
  EXPECT_EQ(group.max_tokens, 7);
  EXPECT_EQ(group.min_tokens, 2);
  EXPECT_THAT(group.stop_ids, ElementsAre(9, 48, 49));
  EXPECT_EQ(group.n, 3);
  EXPECT_TRUE(group.logprobs.prompt);
  EXPECT_EQ(group.logprobs.top_n, 5);
}

TEST_F(AdmissionTest, ResolveDrawsASeedWhenNoneWasGiven) {
  EXPECT_NE(Resolved().sampling.seed, Resolved().sampling.seed);
}

TEST_F(AdmissionTest, ResolveShortensTheDefaultToTheRoomThatIsLeft) {
  request_.prompt = std::vector<int32_t>(90, 1);
  request_.stop.min_tokens = 20;
  const SequenceGroup group = Resolved();
  EXPECT_EQ(group.max_tokens, 10);
  EXPECT_EQ(group.min_tokens, 10);
}

TEST_F(AdmissionTest, IgnoreEosLeavesOnlyTheCallersStopIds) {
  request_.stop.ignore_eos = true;
  request_.stop.stop_ids = {5};
  EXPECT_THAT(Resolved().stop_ids, ElementsAre(5));
}

TEST_F(AdmissionTest, ResolvedScoresGenerateNothing) {
  request_.score_only = true;
  request_.n = 4;
  request_.max_tokens = 9;
  const SequenceGroup group = Resolved();
  EXPECT_EQ(group.max_tokens, 0);
  EXPECT_EQ(group.n, 1);
  EXPECT_TRUE(group.logprobs.prompt);
  EXPECT_EQ(group.prompt_tokens_to_run(), 2);
}

}  // namespace
}  // namespace yoio
