// Many streams at once through responders and outboxes, over a transport that checks its contract.
#include <algorithm>
#include <atomic>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/bounded_queue.h"
#include "engine/outbox.h"
#include "engine/responder.h"
#include "engine/text_pool.h"
#include "gtest/gtest.h"
#include "tests/support/byte_tokenizer.h"

namespace yoio {
namespace {

using test::ByteTokenizer;

constexpr int kStreams = 64;
constexpr int kTokens = 400;  // of a stream that nobody cancels or stops: more than a full outbox holds
constexpr int kReaders = 3;

enum class Fate { kLength, kStopString, kCancelled };

Fate FateOf(int stream) {
  return stream % 4 == 1 ? Fate::kCancelled : stream % 4 == 2 ? Fate::kStopString : Fate::kLength;
}

// What stream `stream` generates: different everywhere, without the stop string but where it belongs.
std::string Script(int stream) {
  std::mt19937 random(stream);
  std::string script(kTokens, ' ');
  for (char& c : script) c = static_cast<char>('a' + random() % 26);
  if (FateOf(stream) == Fate::kStopString) script.replace(100 + 4 * stream % 250, 3, "END");
  return script;
}

// One stream as its reader sees it.
class Stream : public Transport, public std::enable_shared_from_this<Stream> {
 public:
  Stream(int index, BoundedQueue<std::shared_ptr<Stream>>& ready) : index_(index), ready_(ready) {}

  void Ready() override {
    EXPECT_FALSE(busy_.exchange(true)) << "told twice, stream " << index_;
    ready_.Push(shared_from_this());
  }

  // Takes until nothing is left, as a reader told by Ready does. Returns whether the end came.
  bool Read(Outbox& outbox) {
    for (;;) {
      // Only the Take that finds nothing re-arms Ready: another reader may then be at work before it returns.
      const bool ended = end_.has_value();
      busy_.store(false);
      Outbox::Taken taken = outbox.Take();
      if (taken.empty()) return ended;
      EXPECT_FALSE(busy_.exchange(true)) << "told while busy, stream " << index_;
      for (Event& event : taken.events) Note(event);
      if (index_ % 5 == 0) std::this_thread::sleep_for(std::chrono::microseconds(200));  // slow readers
      EXPECT_FALSE(end_.has_value()) << "something after the end, stream " << index_;
      end_ = std::move(taken.end);
    }
  }

  std::string text_;
  std::string ids_;
  std::vector<FinishedEvent> finished_;
  std::optional<int32_t> completion_tokens_;
  std::optional<absl::Status> end_;

 private:
  void Note(const Event& event) {
    if (const auto* delta = std::get_if<DeltaEvent>(&event)) {
      text_ += delta->text;
      for (const TokenRecord& token : delta->tokens) ids_ += static_cast<char>(token.id);
      EXPECT_TRUE(finished_.empty()) << "a delta after the end of its choice, stream " << index_;
    } else if (const auto* finished = std::get_if<FinishedEvent>(&event)) {
      finished_.push_back(*finished);
    } else if (const auto* summary = std::get_if<SummaryEvent>(&event)) {
      completion_tokens_ = summary->usage.completion_tokens;
    }
  }

  const int index_;
  BoundedQueue<std::shared_ptr<Stream>>& ready_;
  std::atomic<bool> busy_{false};
};

// The engine's side of one stream.
struct Sequence {
  std::string script;
  std::shared_ptr<Outbox> outbox;
  std::shared_ptr<Responder> responder;
  int next = 0;
  int pause = kTokens + 1;  // here it waits for the client to cancel
  bool ended = false;
  std::atomic<bool> stopped{false};    // by a stop string
  std::atomic<bool> cancelled{false};  // by the client
};

class StreamsTest : public ::testing::Test {
 protected:
  StreamsTest() {
    for (int i = 0; i < kStreams; ++i) {
      auto sequence = std::make_unique<Sequence>();
      streams_.push_back(std::make_shared<Stream>(i, ready_));
      sequence->script = Script(i);
      if (FateOf(i) == Fate::kCancelled) sequence->pause = kTokens / 2;
      sequence->outbox = std::make_shared<Outbox>(streams_.back());
      ResponderOptions options{.prompt_tokens = 1,
                               .n = 1,
                               .output_text = true,
                               .output_ids = true,
                               .skip_special_tokens = true,
                               .stop = {}};
      options.stop.stop_strings = {"END"};
      sequence->responder =
          std::make_shared<Responder>(options, &tokenizer_, pool_, sequence->outbox,
                                      [raw = sequence.get()](int32_t) { raw->stopped.store(true); });
      sequences_.push_back(std::move(sequence));
    }
  }

  // One step of one stream, as the engine does it. Returns false when there is nothing to do.
  static bool Step(Sequence& sequence) {
    if (sequence.cancelled.load()) {
      sequence.responder->Fail(absl::CancelledError("the client left"));
      sequence.ended = true;
    } else if (sequence.stopped.load() || sequence.next == kTokens) {
      sequence.responder->Complete({});
      sequence.ended = true;
    } else if (sequence.responder->full() || sequence.next == sequence.pause) {
      return false;
    } else {
      const TokenRecord token{static_cast<uint8_t>(sequence.script[sequence.next++]), 0, {}};
      const bool last = sequence.next == kTokens;
      sequence.responder->Token(
          0, token, last ? std::optional(Responder::Ending{FinishReason::kLength}) : std::nullopt);
    }
    return true;
  }

  void RunEngine() {
    for (int live = kStreams; live > 0;) {
      bool progress = false;
      for (const auto& sequence : sequences_) {
        if (sequence->ended) continue;
        progress |= Step(*sequence);
        live -= sequence->ended;
        EXPECT_LE(sequence->next, kTokens);
      }
      if (!progress) std::this_thread::yield();
    }
  }

  void RunReader() {
    while (std::optional<std::shared_ptr<Stream>> stream = ready_.Pop()) {
      const auto at = std::find(streams_.begin(), streams_.end(), *stream) - streams_.begin();
      if ((*stream)->Read(*sequences_[at]->outbox) && ended_.fetch_add(1) + 1 == kStreams) ready_.Close();
    }
  }

  // Cancels midway: once a stream has shown some text, from a thread of its own.
  void RunCanceller() {
    for (int i = 0; i < kStreams; ++i) {
      if (FateOf(i) != Fate::kCancelled) continue;
      while (sequences_[i]->responder->tokens_sent() < i) std::this_thread::yield();
      sequences_[i]->cancelled.store(true);
    }
  }

  ByteTokenizer tokenizer_;
  BoundedQueue<std::shared_ptr<Stream>> ready_{kStreams};
  std::vector<std::shared_ptr<Stream>> streams_;
  std::vector<std::unique_ptr<Sequence>> sequences_;
  std::atomic<int> ended_{0};
  TextPool pool_{2, 1};
};

TEST_F(StreamsTest, EveryTokenArrivesOnceAndInOrder) {
  std::vector<std::thread> threads;
  threads.emplace_back([this] { RunEngine(); });
  threads.emplace_back([this] { RunCanceller(); });
  for (int i = 0; i < kReaders; ++i) threads.emplace_back([this] { RunReader(); });
  for (std::thread& thread : threads) thread.join();

  for (int i = 0; i < kStreams; ++i) {
    SCOPED_TRACE(absl::StrCat("stream ", i));
    const Stream& stream = *streams_[i];
    const std::string& script = sequences_[i]->script;
    ASSERT_TRUE(stream.end_.has_value());
    if (FateOf(i) == Fate::kCancelled) {
      EXPECT_EQ(*stream.end_, absl::CancelledError("the client left"));
      EXPECT_TRUE(stream.finished_.empty());
      EXPECT_EQ(stream.ids_, script.substr(0, stream.ids_.size()));
      EXPECT_EQ(stream.text_, script.substr(0, stream.text_.size()));
      EXPECT_GE(static_cast<int>(stream.ids_.size()), i) << "it was cancelled after that many";
      EXPECT_LT(static_cast<int>(stream.ids_.size()), kTokens);
      continue;
    }
    const bool stops = FateOf(i) == Fate::kStopString;
    const size_t stop = stops ? script.find("END") : kTokens;
    EXPECT_EQ(*stream.end_, absl::OkStatus());
    EXPECT_EQ(stream.text_, script.substr(0, stop));
    EXPECT_EQ(stream.ids_, script.substr(0, stops ? stop + 3 : kTokens));
    EXPECT_EQ(stream.completion_tokens_, static_cast<int32_t>(stream.ids_.size()));
    ASSERT_EQ(stream.finished_.size(), 1u);
    EXPECT_EQ(stream.finished_[0].reason, stops ? FinishReason::kStop : FinishReason::kLength);
  }
}

}  // namespace
}  // namespace yoio
