#include "engine/responder.h"

#include <utility>

#include "base/check.h"

namespace yoio {

Responder::Responder(ResponderOptions options, const Tokenizer* tokenizer, TextPool& pool,
                     std::shared_ptr<Outbox> outbox, std::function<void(int32_t)> on_stop_string)
    : options_(std::move(options)),
      pool_(pool),
      outbox_(std::move(outbox)),
      on_stop_string_(std::move(on_stop_string)),
      choices_(options_.n) {
  const StopParams& stop = options_.stop;
  if (!options_.output_text && stop.stop_strings.empty()) return;
  YOIO_CHECK(tokenizer != nullptr) << "text without a tokenizer";
  for (Choice& choice : choices_) {
    choice.detokenizer.emplace(*tokenizer, options_.skip_special_tokens);
    if (!stop.stop_strings.empty()) choice.matcher.emplace(stop.stop_strings, stop.include_stop);
  }
}

void Responder::Accept(AcceptedEvent event) { Post(Event(std::move(event))); }

void Responder::Progress(ProgressEvent event) { Post(Event(event)); }

void Responder::PromptScores(PromptScoresEvent event) { Post(Event(std::move(event))); }

void Responder::Token(int32_t choice, TokenRecord token, std::optional<Ending> ending) {
  Post(Arrival{choice, std::move(token), ending});
}

void Responder::Finish(int32_t choice, Ending ending) { Post(Arrival{choice, std::nullopt, ending}); }

void Responder::Complete(SummaryEvent summary) { Post(Event(summary), /*last=*/true); }

void Responder::Fail(absl::Status status, std::optional<SummaryEvent> so_far) {
  YOIO_CHECK(!status.ok()) << "a failure needs an error";
  Post(Failure{std::move(status), std::move(so_far)}, /*last=*/true);
}

bool Responder::full() const {
  {
    MutexLock lock(mutex_);
    if (inbox_tokens_ > Outbox::kMaxTokens || inbox_scores_ > kMaxScoreRecords) return true;
  }
  return outbox_->full();
}

bool Responder::idle() const {
  {
    MutexLock lock(mutex_);
    if (task_scheduled_) return false;
  }
  return outbox_->empty();
}

void Responder::Post(Message message, bool last) {
  {
    MutexLock lock(mutex_);
    YOIO_CHECK(!closed_) << "a call after the last one";
    closed_ = last;
    if (const auto* arrival = std::get_if<Arrival>(&message)) {
      YOIO_CHECK(arrival->choice >= 0 && arrival->choice < options_.n) << "choice " << arrival->choice;
      inbox_tokens_ += arrival->token.has_value();
    } else if (const auto* event = std::get_if<Event>(&message)) {
      const auto* scores = std::get_if<PromptScoresEvent>(event);
      if (scores != nullptr) inbox_scores_ += static_cast<int>(scores->tokens.size());
    }
    inbox_.push_back(std::move(message));
    if (std::exchange(task_scheduled_, true)) return;
  }
  pool_.Run([self = shared_from_this()] { self->EmptyInbox(); });
}

void Responder::EmptyInbox() {
  for (;; batch_.clear()) {
    {
      MutexLock lock(mutex_);
      if (inbox_.empty()) {
        task_scheduled_ = false;
        return;
      }
      batch_.swap(inbox_);
      inbox_tokens_ = 0;
      inbox_scores_ = 0;
    }
    for (Message& message : batch_) {
      std::visit([this](auto& content) { Process(content); }, message);
    }
  }
}

void Responder::Process(Event& event) {
  auto* summary = std::get_if<SummaryEvent>(&event);
  if (summary != nullptr) summary->usage.completion_tokens = tokens_sent();
  const bool last = summary != nullptr;
  outbox_->Append(std::move(event));
  if (last) outbox_->End(absl::OkStatus());
}

void Responder::Process(Failure& failure) {
  if (failure.so_far) failure.so_far->usage.completion_tokens = tokens_sent();
  outbox_->End(std::move(failure.status), std::move(failure.so_far));
}

void Responder::Process(Arrival& arrival) {
  Choice& choice = choices_[arrival.choice];
  if (choice.finished) return;
  DeltaEvent delta{.choice = arrival.choice, .text = {}, .tokens = {}};
  std::optional<int> stop;
  if (arrival.token) {
    ++choice.num_tokens;
    tokens_sent_.fetch_add(1, std::memory_order_relaxed);
    if (choice.detokenizer) stop = Show(choice, choice.detokenizer->Append(arrival.token->id), delta.text);
    if (options_.output_ids) delta.tokens.push_back(*std::move(arrival.token));
  }
  if (!stop && arrival.ending) stop = ShowRest(choice, delta.text);
  choice.finished = stop || arrival.ending;
  if (stop) on_stop_string_(arrival.choice);

  if (!options_.output_text) delta.text.clear();
  if (!delta.text.empty() || !delta.tokens.empty()) {
    delta.num_tokens = choice.num_tokens - std::exchange(choice.num_reported, choice.num_tokens);
    outbox_->Append(std::move(delta));
  }
  if (stop) {
    outbox_->Append(FinishedEvent{arrival.choice, FinishReason::kStop, options_.stop.stop_strings[*stop]});
  } else if (arrival.ending) {
    outbox_->Append(FinishedEvent{arrival.choice, arrival.ending->reason, {}, arrival.ending->matched_id});
  }
}

std::optional<int> Responder::Show(Choice& choice, std::string_view piece, std::string& text) {
  if (!choice.matcher || choice.num_tokens <= options_.stop.min_tokens) {
    text += piece;
    return std::nullopt;
  }
  StopMatcher::Output output = choice.matcher->Append(piece);
  text += output.text;
  return output.stop;
}

std::optional<int> Responder::ShowRest(Choice& choice, std::string& text) {
  if (!choice.detokenizer) return std::nullopt;
  const std::optional<int> stop = Show(choice, choice.detokenizer->Flush(), text);
  if (!stop && choice.matcher) text += choice.matcher->Flush();
  return stop;
}

}  // namespace yoio
