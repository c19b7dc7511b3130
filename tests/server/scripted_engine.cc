#include "tests/server/scripted_engine.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "engine/errors.h"

namespace yoio {

void ScriptedRequest::Accept(int n) {
  SamplingParams sampling;
  sampling.seed = 7;
  Send(AcceptedEvent{
      .request_id = request_.id, .prompt_tokens = 3, .sampling = sampling, .max_tokens = 16, .n = n});
}

void ScriptedRequest::Send(Event event) { outbox_->Append(std::move(event)); }

void ScriptedRequest::SendText(int choice, std::string text, int num_tokens) {
  DeltaEvent delta{.choice = choice, .text = std::move(text), .tokens = {}, .num_tokens = num_tokens};
  for (int i = 0; i < num_tokens; ++i) {
    delta.tokens.push_back({.id = 100 + i, .logprob = -0.5f, .top = {{.id = 100 + i, .logprob = -0.5f}}});
  }
  Send(std::move(delta));
}

void ScriptedRequest::FinishChoice(int choice, FinishReason reason) {
  Send(FinishedEvent{.choice = choice, .reason = reason, .matched_stop = {}});
}

void ScriptedRequest::Complete(int prompt_tokens, int completion_tokens) {
  Send(SummaryEvent{
      .usage = {.prompt_tokens = prompt_tokens, .cached_tokens = 0, .completion_tokens = completion_tokens},
      .timing = {.queue = std::chrono::milliseconds(2), .total = std::chrono::milliseconds(5)}});
  End(absl::OkStatus());
}

bool ScriptedRequest::End(absl::Status status, std::optional<SummaryEvent> so_far) {
  {
    MutexLock lock(mutex_);
    if (std::exchange(ended_, true)) return false;
  }
  outbox_->End(std::move(status), std::move(so_far));
  return true;
}

ScriptedEngine::ScriptedEngine() {
  model_.architecture = "clsa";
  model_.revision = "r1";
  model_.max_model_len = 4096;
  model_.vocab_size = 256;
  model_.eos_ids = {1};
  model_.has_tokenizer = true;
  model_.default_max_tokens = 1024;
  limits_.max_request_bytes = 1 << 20;
  limits_.max_sequences = 8;
  limits_.max_step_tokens = 512;
  limits_.max_request_time = std::chrono::hours(1);
  limits_.max_queued_requests = 100;
  limits_.max_queued_tokens = 10000;
  limits_.tenant = {.max_requests = 50, .max_queued_tokens = 5000, .max_cache_share = 0.5};
  limits_.max_token_gap = std::chrono::milliseconds(100);
  memory_.device = "cpu";
  memory_.ranks = 2;
}

ScriptedEngine::~ScriptedEngine() {
  std::vector<std::thread> threads;
  {
    MutexLock lock(mutex_);
    threads.swap(text_threads_);
  }
  for (std::thread& thread : threads) thread.join();
}

std::shared_ptr<ScriptedRequest> ScriptedEngine::WaitForRequest() {
  MutexLock lock(mutex_);
  while (submitted_.empty()) changed_.Wait(mutex_);
  auto request = std::move(submitted_.front());
  submitted_.pop_front();
  return request;
}

void ScriptedEngine::RefuseWith(absl::Status status) {
  MutexLock lock(mutex_);
  refusal_ = std::move(status);
}

void ScriptedEngine::AnswerWith(std::string text) {
  MutexLock lock(mutex_);
  answer_ = std::move(text);
}

absl::Status ScriptedEngine::WaitForCancel() {
  MutexLock lock(mutex_);
  while (cancelled_.empty()) changed_.Wait(mutex_);
  absl::Status reason = std::move(cancelled_.front());
  cancelled_.pop_front();
  return reason;
}

int ScriptedEngine::num_live() const {
  MutexLock lock(mutex_);
  return static_cast<int>(
      std::count_if(live_.begin(), live_.end(), [](const auto& request) { return !request->ended(); }));
}

void ScriptedEngine::FailWith(absl::Status status) {
  MutexLock lock(mutex_);
  health_ = std::move(status);
}

void ScriptedEngine::FillTextPool() {
  MutexLock lock(mutex_);
  text_pool_full_ = true;
}

absl::Status ScriptedEngine::Submit(Request request, std::shared_ptr<Outbox> outbox) {
  auto scripted = std::make_shared<ScriptedRequest>(std::move(request), std::move(outbox));
  std::optional<std::string> answer;
  {
    MutexLock lock(mutex_);
    if (!refusal_.ok()) return refusal_;
    answer = answer_;
    live_.push_back(scripted);
    if (!answer) submitted_.push_back(scripted);
    changed_.NotifyAll();
  }
  if (answer) {
    scripted->Accept();
    scripted->SendText(0, *answer);
    scripted->FinishChoice(0);
    scripted->Complete();
  }
  return absl::OkStatus();
}

absl::Status ScriptedEngine::Cancel(std::string_view tenant, std::string_view request_id,
                                    absl::Status reason) {
  std::vector<std::shared_ptr<ScriptedRequest>> live;
  {
    MutexLock lock(mutex_);
    live = live_;
  }
  for (const auto& request : live) {
    if (request->request().tenant != tenant || request->request().id != request_id) continue;
    if (!request->End(reason)) continue;
    MutexLock lock(mutex_);
    cancelled_.push_back(std::move(reason));
    changed_.NotifyAll();
    return absl::OkStatus();
  }
  return absl::NotFoundError("request_id: no live request has it");
}

absl::StatusOr<std::vector<int32_t>> ScriptedEngine::Tokenize(std::string_view text) const {
  return std::vector<int32_t>(text.begin(), text.end());
}

absl::StatusOr<std::string> ScriptedEngine::Detokenize(const std::vector<int32_t>& ids, bool) const {
  return std::string(ids.begin(), ids.end());
}

absl::Status ScriptedEngine::RunText(std::function<void()> work) {
  MutexLock lock(mutex_);
  if (text_pool_full_) return absl::ResourceExhaustedError("the text pool's queue is full");
  text_threads_.emplace_back(std::move(work));
  return absl::OkStatus();
}

absl::Status ScriptedEngine::health() const {
  MutexLock lock(mutex_);
  return health_;
}

absl::Status ScriptedEngine::Drain(TimePoint) {
  const absl::Status draining =
      WithReason(absl::StatusCode::kUnavailable, kReasonDraining, "the server is draining");
  RefuseWith(draining);
  std::vector<std::shared_ptr<ScriptedRequest>> live;
  {
    MutexLock lock(mutex_);
    live = live_;
  }
  bool ended_any = false;
  for (const auto& request : live) ended_any = request->End(draining) || ended_any;
  return ended_any ? absl::DeadlineExceededError("requests were ended") : absl::OkStatus();
}

}  // namespace yoio
