#include "engine/outbox.h"

#include <atomic>
#include <string>
#include <thread>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace yoio {
namespace {

using ::testing::ElementsAre;

class CountingTransport : public Transport {
 public:
  explicit CountingTransport(bool* destroyed = nullptr) : destroyed_(destroyed) {}
  ~CountingTransport() override {
    if (destroyed_ != nullptr) *destroyed_ = true;
  }
  void Ready() override { ready_.fetch_add(1); }
  void EndWaits() override { end_waits_.fetch_add(1); }
  int ready() const { return ready_.load(); }
  int end_waits() const { return end_waits_.load(); }

 private:
  std::atomic<int> ready_{0}, end_waits_{0};
  bool* destroyed_;
};

DeltaEvent Delta(int choice, std::string text, std::vector<int32_t> ids = {}) {
  DeltaEvent delta{choice, std::move(text), {}, static_cast<int32_t>(ids.size())};
  for (int32_t id : ids) delta.tokens.push_back({id, 0, {}});
  return delta;
}

// One line an event, for literal comparison.
std::string Text(const Event& event) {
  if (const auto* delta = std::get_if<DeltaEvent>(&event)) {
    std::string ids;
    for (const TokenRecord& token : delta->tokens) absl::StrAppend(&ids, " ", token.id);
    return absl::StrCat("delta ", delta->choice, " '", delta->text, "'", ids);
  }
  if (const auto* finished = std::get_if<FinishedEvent>(&event)) {
    return absl::StrCat("finished ", finished->choice);
  }
  if (const auto* progress = std::get_if<ProgressEvent>(&event)) {
    return absl::StrCat("progress ", progress->prompt_tokens_done);
  }
  if (const auto* scores = std::get_if<PromptScoresEvent>(&event)) {
    return absl::StrCat("scores ", scores->first_position);
  }
  return std::holds_alternative<AcceptedEvent>(event) ? "accepted" : "summary";
}

std::vector<std::string> Texts(const Outbox::Taken& taken) {
  std::vector<std::string> texts;
  for (const Event& event : taken.events) texts.push_back(Text(event));
  if (taken.end) texts.push_back(absl::StrCat("end ", taken.end->ToString()));
  return texts;
}

class OutboxTest : public ::testing::Test {
 protected:
  std::shared_ptr<CountingTransport> transport_ = std::make_shared<CountingTransport>();
  Outbox outbox_{transport_};
};

TEST_F(OutboxTest, TellsAnIdleReaderOnce) {
  EXPECT_EQ(transport_->ready(), 0);
  outbox_.Append(AcceptedEvent{});
  EXPECT_EQ(transport_->ready(), 1);
  outbox_.Append(Delta(0, "a"));
  EXPECT_EQ(transport_->ready(), 1) << "the reader has been told already";
  EXPECT_THAT(Texts(outbox_.Take()), ElementsAre("accepted", "delta 0 'a'"));
  outbox_.Append(Delta(0, "b"));
  EXPECT_EQ(transport_->ready(), 1) << "the reader is busy until it finds nothing";
  EXPECT_THAT(Texts(outbox_.Take()), ElementsAre("delta 0 'b'"));
  EXPECT_TRUE(outbox_.Take().empty());
  outbox_.Append(Delta(0, "c"));
  EXPECT_EQ(transport_->ready(), 2);
}

TEST_F(OutboxTest, MergesDeltasOfAChoice) {
  outbox_.Append(Delta(0, "one ", {1, 2}));
  outbox_.Append(Delta(1, "uno ", {7}));
  outbox_.Append(Delta(0, "two", {3}));
  outbox_.Append(Delta(1, "due", {8}));
  outbox_.Append(FinishedEvent{1, FinishReason::kLength, {}});
  outbox_.Append(Delta(0, "!", {4}));
  const Outbox::Taken taken = outbox_.Take();
  EXPECT_THAT(Texts(taken), ElementsAre("delta 0 'one two!' 1 2 3 4", "delta 1 'uno due' 7 8", "finished 1"));
  EXPECT_EQ(std::get<DeltaEvent>(taken.events[0]).num_tokens, 4);
}

TEST_F(OutboxTest, DoesNotMergeWithWhatWasTaken) {
  outbox_.Append(Delta(0, "a"));
  EXPECT_THAT(Texts(outbox_.Take()), ElementsAre("delta 0 'a'"));
  outbox_.Append(Delta(0, "b"));
  EXPECT_THAT(Texts(outbox_.Take()), ElementsAre("delta 0 'b'"));
}

TEST_F(OutboxTest, KeepsOnlyTheLatestProgress) {
  outbox_.Append(ProgressEvent{Phase::kQueued, 3, 0});
  outbox_.Append(PromptScoresEvent{.first_position = 1, .tokens = {}});
  outbox_.Append(ProgressEvent{Phase::kPrefill, 0, 512});
  outbox_.Append(PromptScoresEvent{.first_position = 1025, .tokens = {}});
  EXPECT_THAT(Texts(outbox_.Take()), ElementsAre("progress 512", "scores 1", "scores 1025"));
}

TEST_F(OutboxTest, EndComesLastAndOnce) {
  outbox_.Append(Delta(0, "a"));
  outbox_.End(absl::CancelledError("enough"));
  EXPECT_THAT(Texts(outbox_.Take()), ElementsAre("delta 0 'a'", "end CANCELLED: enough"));
  EXPECT_TRUE(outbox_.Take().empty());
  EXPECT_EQ(transport_->ready(), 1);
}

TEST_F(OutboxTest, EndAloneWakesTheReader) {
  outbox_.End(absl::OkStatus());
  EXPECT_EQ(transport_->ready(), 1);
  EXPECT_THAT(Texts(outbox_.Take()), ElementsAre("end OK"));
}

TEST_F(OutboxTest, TellsABusyReaderThatTheEndWaits) {
  outbox_.Append(Delta(0, "a"));
  EXPECT_EQ(transport_->end_waits(), 0);
  outbox_.End(absl::OkStatus());
  EXPECT_EQ(transport_->end_waits(), 1);
  EXPECT_EQ(transport_->ready(), 1);
}

TEST_F(OutboxTest, TellsAnIdleReaderOfTheEndByReady) {
  outbox_.End(absl::OkStatus());
  EXPECT_EQ(transport_->end_waits(), 0);
}

TEST_F(OutboxTest, IsEmptyOnceAllWasTaken) {
  EXPECT_TRUE(outbox_.empty());
  outbox_.Append(Delta(0, "a"));
  EXPECT_FALSE(outbox_.empty());
  Outbox::Taken taken;
  EXPECT_TRUE(outbox_.Take(taken));
  EXPECT_TRUE(outbox_.empty());
  EXPECT_FALSE(outbox_.Take(taken));
  outbox_.End(absl::OkStatus());
  EXPECT_FALSE(outbox_.empty());
}

TEST_F(OutboxTest, TakeReplacesWhatWasTakenBefore) {
  Outbox::Taken taken;
  outbox_.Append(Delta(0, "a"));
  EXPECT_TRUE(outbox_.Take(taken));
  outbox_.Append(Delta(1, "b"));
  EXPECT_TRUE(outbox_.Take(taken));
  EXPECT_THAT(Texts(taken), ElementsAre("delta 1 'b'"));
}

TEST(OutboxLifeTest, HoldsTheTransportUntilTheEndIsTaken) {
  bool destroyed = false;
  Outbox outbox(std::make_shared<CountingTransport>(&destroyed));
  outbox.Append(Delta(0, "a"));
  outbox.Take();
  outbox.End(absl::OkStatus());
  EXPECT_FALSE(destroyed);
  outbox.Take();
  EXPECT_TRUE(destroyed);
}

TEST_F(OutboxTest, IsFullPast256Tokens) {
  for (int i = 0; i < Outbox::kMaxTokens; ++i) outbox_.Append(Delta(i % 3, "", {i}));
  EXPECT_FALSE(outbox_.full());
  DeltaEvent without_record = Delta(0, "");
  without_record.num_tokens = 1;
  outbox_.Append(without_record);
  EXPECT_TRUE(outbox_.full());
  EXPECT_EQ(outbox_.Take().events.size(), 3u) << "one for each choice";
  EXPECT_FALSE(outbox_.full());
}

TEST_F(OutboxTest, IsFullPast64KiBOfText) {
  outbox_.Append(Delta(0, std::string(Outbox::kMaxBytes, 'x')));
  EXPECT_FALSE(outbox_.full());
  outbox_.Append(Delta(0, "x"));
  EXPECT_TRUE(outbox_.full());
  EXPECT_EQ(outbox_.bytes(), Outbox::kMaxBytes + 1);
  outbox_.Take();
  EXPECT_EQ(outbox_.bytes(), 0u);
}

TEST_F(OutboxTest, IsFullPast64KiBOfScores) {
  const TokenRecord record{.id = 1, .logprob = 0, .top = std::vector<TopLogprob>(20)};
  for (int chunks = 0; !outbox_.full(); ++chunks) {
    ASSERT_LT(chunks, 3) << "a thousand records of 20 alternatives are over 160 KB";
    outbox_.Append(PromptScoresEvent{1, std::vector<TokenRecord>(kMaxScoreRecords, record)});
  }
}

TEST_F(OutboxTest, AccountsForTheTimeItWasFull) {
  EXPECT_EQ(outbox_.full_since(), std::nullopt);
  EXPECT_EQ(outbox_.blocked(), Duration::zero());
  Duration least{}, most{};
  for (int round = 0; round < 2; ++round) {
    const TimePoint before = Clock::now();
    outbox_.Append(Delta(0, std::string(Outbox::kMaxBytes + 1, 'x')));
    const TimePoint after = Clock::now();
    outbox_.Append(Delta(0, "more"));
    ASSERT_TRUE(outbox_.full_since().has_value());
    EXPECT_GE(*outbox_.full_since(), before);
    EXPECT_LE(*outbox_.full_since(), after) << "since it became full, not since the last event";
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
    const TimePoint before_take = Clock::now();
    EXPECT_GE(outbox_.blocked(), least + (before_take - after));
    outbox_.Take();
    least += before_take - after;
    most += Clock::now() - before;
    EXPECT_EQ(outbox_.full_since(), std::nullopt);
    EXPECT_GE(outbox_.blocked(), least);
    EXPECT_LE(outbox_.blocked(), most);
  }
}

TEST(OutboxDeathTest, NothingFollowsTheEnd) {
  Outbox outbox(std::make_shared<CountingTransport>());
  outbox.End(absl::OkStatus());
  EXPECT_DEATH(outbox.Append(AcceptedEvent{}), "after the end");
  EXPECT_DEATH(outbox.End(absl::OkStatus()), "ends once");
}

// Reads from inside Ready, as a transport without a queue would: no lock is held there.
TEST(OutboxReadyTest, MayTakeInsideReady) {
  struct Greedy : Transport {
    void Ready() override {
      for (Outbox::Taken taken = outbox->Take(); !taken.empty(); taken = outbox->Take()) {
        for (const std::string& text : Texts(taken)) texts.push_back(text);
      }
    }
    Outbox* outbox = nullptr;
    std::vector<std::string> texts;
  };
  const auto greedy = std::make_shared<Greedy>();
  Outbox outbox(greedy);
  greedy->outbox = &outbox;
  outbox.Append(Delta(0, "a"));
  outbox.Append(Delta(0, "b"));
  outbox.End(absl::OkStatus());
  EXPECT_THAT(greedy->texts, ElementsAre("delta 0 'a'", "delta 0 'b'", "end OK"));
}

}  // namespace
}  // namespace yoio
