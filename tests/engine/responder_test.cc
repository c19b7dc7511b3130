#include "engine/responder.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "base/bounded_queue.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/byte_tokenizer.h"

namespace yoio {
namespace {

using test::ByteTokenizer;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

class SilentTransport : public Transport {
 public:
  void Ready() override {}
};

// One line an event: deltas as text, then (ids), then the number of tokens they stand for.
std::string Text(const Event& event) {
  if (const auto* delta = std::get_if<DeltaEvent>(&event)) {
    std::string ids;
    for (const TokenRecord& token : delta->tokens) absl::StrAppend(&ids, ids.empty() ? "" : " ", token.id);
    if (!ids.empty()) ids = absl::StrCat(" (", ids, ")");
    return absl::StrCat(delta->choice, ": '", delta->text, "'", ids, " x", delta->num_tokens);
  }
  if (const auto* finished = std::get_if<FinishedEvent>(&event)) {
    constexpr const char* kReasons[] = {"stop", "eos", "length", "time budget"};
    return absl::StrCat(finished->choice, ": ", kReasons[static_cast<int>(finished->reason)], " '",
                        finished->matched_stop, "' ", finished->matched_id);
  }
  if (const auto* summary = std::get_if<SummaryEvent>(&event)) {
    return absl::StrCat("summary ", summary->usage.completion_tokens);
  }
  if (const auto* scores = std::get_if<PromptScoresEvent>(&event)) {
    return absl::StrCat("scores from ", scores->first_position);
  }
  return std::holds_alternative<AcceptedEvent>(event) ? "accepted" : "progress";
}

class ResponderTest : public ::testing::Test {
 protected:
  static ResponderOptions Options() {
    return {.prompt_tokens = 3,
            .n = 1,
            .output_text = true,
            .output_ids = false,
            .skip_special_tokens = true,
            .stop = {}};
  }

  static ResponderOptions WithStops(std::vector<std::string> stops) {
    ResponderOptions options = Options();
    options.stop.stop_strings = std::move(stops);
    return options;
  }

  void Start(const ResponderOptions& options, const Tokenizer* tokenizer) {
    responder_ = std::make_shared<Responder>(options, tokenizer, pool_, outbox_,
                                             [this](int32_t choice) { stopped_.push_back(choice); });
  }
  void Start(const ResponderOptions& options) { Start(options, &tokenizer_); }

  // The bytes of `text` as tokens of `choice`; `ending` comes with the last.
  void Say(std::string_view text, int32_t choice = 0, std::optional<Responder::Ending> ending = {}) {
    for (size_t i = 0; i < text.size(); ++i) {
      const TokenRecord token{static_cast<uint8_t>(text[i]), 0, {}};
      responder_->Token(choice, token, i + 1 == text.size() ? ending : std::nullopt);
    }
  }

  // Waits until the pool's only thread has done everything asked so far; what the reader finds then.
  std::vector<std::string> Read() {
    BoundedQueue<bool> reached(1);
    pool_.Run([&] { reached.Push(true); });
    reached.Pop();
    std::vector<std::string> texts;
    Outbox::Taken taken = outbox_->Take();
    for (const Event& event : taken.events) texts.push_back(Text(event));
    if (taken.end) texts.push_back(taken.end->ToString());
    return texts;
  }

  ByteTokenizer tokenizer_;
  TextPool pool_{1, 1};
  std::shared_ptr<Outbox> outbox_ = std::make_shared<Outbox>(std::make_shared<SilentTransport>());
  std::shared_ptr<Responder> responder_;
  std::vector<int32_t> stopped_;  // written on the pool, read after Read()
};

constexpr Responder::Ending kLength{FinishReason::kLength};
constexpr Responder::Ending kEos{FinishReason::kEos, ByteTokenizer::kEos};

TEST_F(ResponderTest, TellsAWholeRequestInOrder) {
  Start(Options());
  responder_->Accept({});
  responder_->Progress({Phase::kPrefill, 0, 2});
  responder_->PromptScores({.first_position = 1, .tokens = {}});
  Say("Hello");
  responder_->Token(0, {ByteTokenizer::kEos, 0, {}}, kEos);
  responder_->Complete({});
  EXPECT_THAT(Read(), ElementsAre("accepted", "progress", "scores from 1", "0: 'Hello' x5", "0: eos '' 256",
                                  "summary 6", "OK"));
  EXPECT_EQ(responder_->tokens_sent(), 6);
  EXPECT_THAT(stopped_, IsEmpty());
}

TEST_F(ResponderTest, SpecialTokensShowWhenAskedFor) {
  ResponderOptions options = Options();
  options.skip_special_tokens = false;
  Start(options);
  responder_->Token(0, {ByteTokenizer::kEos, 0, {}}, kEos);
  EXPECT_THAT(Read(), ElementsAre("0: '</s>' x1", "0: eos '' 256"));
}

TEST_F(ResponderTest, NeverSplitsACharacter) {
  Start(Options());
  Say("\xe2\x82");
  EXPECT_THAT(Read(), IsEmpty());
  Say("\xac!");
  EXPECT_THAT(Read(), ElementsAre("0: '€!' x4"));
  Say("\xe2\x82", 0, kLength);
  EXPECT_THAT(Read(), ElementsAre("0: '\xef\xbf\xbd' x2", "0: length '' -1"));
}

TEST_F(ResponderTest, AStopStringEndsTheChoice) {
  Start(WithStops({"END", "never"}));
  Say("abcEN");
  EXPECT_THAT(Read(), ElementsAre("0: 'abc' x3"));
  Say("Dxyz");
  EXPECT_THAT(Read(), ElementsAre("0: stop 'END' -1"));
  EXPECT_THAT(stopped_, ElementsAre(0));
  Say("late", 0, kLength);  // computed before the engine heard of it
  responder_->Finish(0, {FinishReason::kTimeBudget});
  responder_->Complete({});
  EXPECT_THAT(Read(), ElementsAre("summary 6", "OK")) << "tokens up to the one that completed the stop";
}

TEST_F(ResponderTest, TheStopStringStaysWhenAskedFor) {
  ResponderOptions options = WithStops({"END"});
  options.stop.include_stop = true;
  Start(options);
  Say("abcENDxyz");
  EXPECT_THAT(Read(), ElementsAre("0: 'abcEND' x6", "0: stop 'END' -1"));
}

TEST_F(ResponderTest, HeldBackTextThatBecomesNoStopIsDelivered) {
  Start(WithStops({"END"}));
  Say("EN");
  EXPECT_THAT(Read(), IsEmpty());
  Say("E");
  EXPECT_THAT(Read(), ElementsAre("0: 'EN' x3"));
  responder_->Finish(0, {FinishReason::kTimeBudget});
  EXPECT_THAT(Read(), ElementsAre("0: 'E' x0", "0: time budget '' -1"));
}

TEST_F(ResponderTest, AStopStringWinsOverTheLengthReachedWithIt) {
  Start(WithStops({"END"}));
  Say("END", 0, kLength);
  EXPECT_THAT(Read(), ElementsAre("0: stop 'END' -1"));
  EXPECT_THAT(stopped_, ElementsAre(0));
}

TEST_F(ResponderTest, AStopStringMayEndInWhatTheEndReveals) {
  Start(WithStops({"\xef\xbf\xbd"}));  // U+FFFD, which an unfinished character becomes
  Say("ab\xe2", 0, kLength);
  EXPECT_THAT(Read(), ElementsAre("0: 'ab' x2", "0: stop '\xef\xbf\xbd' -1"));
}

TEST_F(ResponderTest, StopStringsWaitForMinTokens) {
  ResponderOptions options = WithStops({"END"});
  options.stop.min_tokens = 4;
  Start(options);
  Say("ENDE");
  EXPECT_THAT(Read(), ElementsAre("0: 'ENDE' x4"));
  Say("ND-END");
  EXPECT_THAT(Read(), ElementsAre("0: 'ND-' x3", "0: stop 'END' -1"));
}

TEST_F(ResponderTest, RecordsDoNotWaitForHeldBackText) {
  ResponderOptions options = WithStops({"END"});
  options.output_ids = true;
  Start(options);
  Say("aEN");
  EXPECT_THAT(Read(), ElementsAre("0: 'a' (97 69 78) x3"));
  Say("D!");
  EXPECT_THAT(Read(), ElementsAre("0: '' (68) x1", "0: stop 'END' -1"));
}

TEST_F(ResponderTest, StopStringsWorkWithoutText) {
  ResponderOptions options = WithStops({"END"});
  options.output_ids = true;
  options.output_text = false;
  Start(options);
  Say("aENDb");
  EXPECT_THAT(Read(), ElementsAre("0: '' (97 69 78 68) x4", "0: stop 'END' -1"));
}

TEST_F(ResponderTest, IdsNeedNoTokenizer) {
  ResponderOptions options = Options();
  options.output_ids = true;
  options.output_text = false;
  Start(options, nullptr);
  Say("ab", 0, Responder::Ending{FinishReason::kStop, 'b'});
  EXPECT_THAT(Read(), ElementsAre("0: '' (97 98) x2", "0: stop '' 98"));
}

TEST_F(ResponderTest, ChoicesAreIndependent) {
  ResponderOptions options = WithStops({"END"});
  options.n = 2;
  Start(options);
  Say("oneEN", 0);
  Say("twoEND", 1);
  Say("-", 0);
  responder_->Finish(0, kLength);
  responder_->Complete({});
  EXPECT_THAT(Read(), ElementsAre("0: 'oneEN-' x6", "1: 'two' x3", "1: stop 'END' -1", "0: length '' -1",
                                  "summary 12", "OK"));
  EXPECT_THAT(stopped_, ElementsAre(1));
}

TEST_F(ResponderTest, AFailureEndsTheStreamAfterWhatCameBefore) {
  Start(WithStops({"END"}));
  Say("abEN");
  responder_->Fail(absl::CancelledError("the client left"));
  EXPECT_THAT(Read(), ElementsAre("0: 'ab' x2", "CANCELLED: the client left"));
  EXPECT_EQ(responder_->tokens_sent(), 4);
}

TEST_F(ResponderTest, AFailureSaysHowFarItCame) {
  Start(Options());
  Say("abc");
  SummaryEvent so_far;
  so_far.timing.prefill_chunks = 7;
  responder_->Fail(absl::CancelledError("the client left"), so_far);
  std::optional<SummaryEvent> taken;
  while (!taken) taken = outbox_->Take().so_far;
  EXPECT_EQ(taken->usage.completion_tokens, 3);
  EXPECT_EQ(taken->timing.prefill_chunks, 7);
}

TEST_F(ResponderTest, IsFullByWhatWaitsInTheInboxOrTheOutbox) {
  Start(Options());
  BoundedQueue<bool> entered(1), open(1);
  pool_.Run([&] {
    entered.Push(true);
    open.Pop();
  });
  entered.Pop();
  Say(std::string(Outbox::kMaxTokens, 'x'));
  EXPECT_FALSE(responder_->full());
  Say("x");
  EXPECT_TRUE(responder_->full());
  EXPECT_EQ(responder_->full_since(), std::nullopt) << "the reader is not to blame";
  open.Push(true);
  BoundedQueue<bool> reached(1);
  pool_.Run([&] { reached.Push(true); });
  reached.Pop();
  EXPECT_TRUE(responder_->full());
  EXPECT_NE(responder_->full_since(), std::nullopt);
  EXPECT_EQ(Read().size(), 1u);
  EXPECT_FALSE(responder_->full());
  EXPECT_GT(responder_->blocked(), Duration::zero());
}

TEST_F(ResponderTest, IsIdleOnceTheReaderHasEverything) {
  Start(Options());
  EXPECT_TRUE(responder_->idle());
  Say("x");
  EXPECT_FALSE(responder_->idle());
  BoundedQueue<bool> reached(1);
  pool_.Run([&] { reached.Push(true); });
  reached.Pop();
  EXPECT_FALSE(responder_->idle());
  Read();
  EXPECT_TRUE(responder_->idle());
}

using ResponderDeathTest = ResponderTest;

TEST_F(ResponderDeathTest, NothingFollowsTheLastCall) {
  Start(Options());
  responder_->Fail(absl::InternalError("over"));
  Read();
  ::testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_DEATH(responder_->Complete({}), "a call after the last one");
}

}  // namespace
}  // namespace yoio
