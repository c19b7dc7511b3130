#include "tests/engine/engine_harness.h"

#include <thread>
#include <utility>

#include "gtest/gtest.h"
#include "tests/support/random.h"

namespace yoio::test {

std::vector<int32_t> ChoiceOutput::ids() const {
  std::vector<int32_t> ids;
  for (const TokenRecord& token : tokens) ids.push_back(token.id);
  return ids;
}

std::shared_ptr<Call> Call::Make(int hold_after) {
  auto call = std::make_shared<Call>();
  {
    MutexLock lock(call->mutex_);
    call->hold_after_ = hold_after;
  }
  call->outbox_ = std::make_shared<Outbox>(call);
  return call;
}

void Call::Ready() { Take(); }

void Call::Resume() {
  {
    MutexLock lock(mutex_);
    hold_after_ = kNeverHold;
    if (!std::exchange(ready_, false)) return;
  }
  Take();
}

void Call::Take() {
  const auto self = shared_from_this();  // the outbox lets go of it with the end
  for (;;) {
    {
      MutexLock lock(mutex_);
      if (tokens_ >= hold_after_) {
        ready_ = true;
        return;
      }
    }
    Outbox::Taken taken = outbox_->Take();
    if (taken.empty()) return;
    MutexLock lock(mutex_);
    for (Event& event : taken.events) Note(event);
    if (taken.end.has_value()) {
      EXPECT_FALSE(output_.end.has_value()) << "a second end";
      EXPECT_EQ(taken.end->ok(), output_.summary.has_value())
          << "a summary and nothing else ends a stream well";
      output_.end = std::move(taken.end);
    }
    changed_.NotifyAll();
  }
}

void Call::Note(Event& event) {
  EXPECT_FALSE(output_.summary.has_value()) << "an event after the summary";
  if (auto* accepted = std::get_if<AcceptedEvent>(&event)) {
    EXPECT_FALSE(output_.accepted.has_value()) << "accepted twice";
    output_.choices.resize(accepted->n);
    output_.accepted = std::move(*accepted);
    return;
  }
  ASSERT_TRUE(output_.accepted.has_value()) << "an event before accepted";
  if (auto* delta = std::get_if<DeltaEvent>(&event)) {
    ChoiceOutput& choice = output_.choices.at(delta->choice);
    EXPECT_FALSE(choice.finished.has_value()) << "a delta after the end of its choice";
    choice.text += delta->text;
    for (TokenRecord& token : delta->tokens) choice.tokens.push_back(std::move(token));
    tokens_ += delta->num_tokens;
  } else if (auto* scores = std::get_if<PromptScoresEvent>(&event)) {
    EXPECT_EQ(scores->first_position, static_cast<int32_t>(output_.scores.size()) + 1);
    EXPECT_LE(static_cast<int>(scores->tokens.size()), kMaxScoreRecords);
    for (TokenRecord& token : scores->tokens) output_.scores.push_back(std::move(token));
  } else if (auto* finished = std::get_if<FinishedEvent>(&event)) {
    std::optional<FinishedEvent>& slot = output_.choices.at(finished->choice).finished;
    EXPECT_FALSE(slot.has_value()) << "a choice ends once";
    slot = std::move(*finished);
  } else if (auto* summary = std::get_if<SummaryEvent>(&event)) {
    output_.summary = *summary;
  } else {
    ++output_.progress;
  }
}

StreamOutput Call::Wait() {
  const TimePoint deadline = Clock::now() + std::chrono::minutes(1);
  MutexLock lock(mutex_);
  while (!output_.end.has_value() && Clock::now() < deadline) changed_.WaitUntil(mutex_, deadline);
  EXPECT_TRUE(output_.end.has_value()) << "the stream never ended";
  return output_;
}

void Call::WaitForTokens(int count) {
  const TimePoint deadline = Clock::now() + std::chrono::minutes(1);
  MutexLock lock(mutex_);
  while (tokens_ < count && !output_.end.has_value() && Clock::now() < deadline) {
    changed_.WaitUntil(mutex_, deadline);
  }
}

EngineOptions MicroOptions() {
  EngineOptions options;
  options.model_dir = YOIO_SOURCE_DIR "/tests/golden/micro";
  options.kv_cache_bytes = 64 << 20;
  options.threads = 1;
  return options;
}

std::unique_ptr<Engine> MakeEngine(const EngineOptions& options) {
  auto engine = Engine::Create(options);
  EXPECT_TRUE(engine.ok()) << engine.status();
  return *std::move(engine);
}

Request IdsRequest(const std::string& id, int prompt_tokens, int max_tokens, uint64_t seed) {
  Random random(seed);
  std::vector<int32_t> prompt;
  for (int i = 0; i < prompt_tokens; ++i) prompt.push_back(random.Below(256));
  Request request;
  request.id = id;
  request.prompt = std::move(prompt);
  request.temperature = 0.0f;
  request.max_tokens = max_tokens;
  request.stop.ignore_eos = true;
  request.output_text = false;
  request.output_ids = true;
  request.arrival = Clock::now();
  return request;
}

std::shared_ptr<Call> Submit(Engine& engine, Request request, int hold_after) {
  auto call = Call::Make(hold_after);
  const absl::Status status = engine.Submit(std::move(request), call->outbox());
  EXPECT_TRUE(status.ok()) << status;
  return call;
}

absl::Status Refusal(Engine& engine, Request request) {
  struct Deaf final : Transport {
    void Ready() override { ADD_FAILURE() << "a refused stream speaks"; }
  };
  const auto outbox = std::make_shared<Outbox>(std::make_shared<Deaf>());
  absl::Status status = engine.Submit(std::move(request), outbox);
  EXPECT_FALSE(status.ok());
  EXPECT_TRUE(outbox->Take().empty()) << "nothing was accepted";
  return status;
}

StreamOutput Generate(Engine& engine, Request request) {
  StreamOutput output = Submit(engine, std::move(request))->Wait();
  EXPECT_EQ(output.end, absl::OkStatus());
  return output;
}

void ExpectAllReturned(const Engine& engine) {
  const TimePoint deadline = Clock::now() + std::chrono::seconds(10);
  const auto returned = [&] {
    const Load load = engine.load();
    return load.running == 0 && load.waiting == 0 && load.free_blocks == load.total_blocks;
  };
  while (!returned() && Clock::now() < deadline) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  const Load load = engine.load();
  EXPECT_EQ(load.running, 0);
  EXPECT_EQ(load.waiting, 0);
  EXPECT_EQ(load.waiting_tokens, 0);
  EXPECT_EQ(load.free_blocks, load.total_blocks);
}

void ExpectSameTokens(const std::vector<TokenRecord>& actual, const std::vector<TokenRecord>& expected) {
  ASSERT_EQ(actual.size(), expected.size());
  for (size_t i = 0; i < actual.size(); ++i) {
    ASSERT_EQ(actual[i].id, expected[i].id) << "token " << i;
    ASSERT_EQ(actual[i].logprob, expected[i].logprob) << "token " << i;
    ASSERT_EQ(actual[i].top.size(), expected[i].top.size()) << "token " << i;
    for (size_t j = 0; j < actual[i].top.size(); ++j) {
      ASSERT_EQ(actual[i].top[j].id, expected[i].top[j].id) << "token " << i << ", alternative " << j;
      ASSERT_EQ(actual[i].top[j].logprob, expected[i].top[j].logprob)
          << "token " << i << ", alternative " << j;
    }
  }
}

}  // namespace yoio::test
