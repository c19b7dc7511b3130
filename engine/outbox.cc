#include "engine/outbox.h"

#include <iterator>
#include <string>

#include "base/check.h"

namespace yoio {
namespace {

// What an event costs while it waits: its text and its records. The fixed part is left out: an event that
// does not merge carries records, or comes once for a request or a choice.
size_t Bytes(const std::vector<TokenRecord>& tokens) {
  size_t bytes = tokens.size() * sizeof(TokenRecord);
  for (const TokenRecord& token : tokens) bytes += token.top.size() * sizeof(TopLogprob);
  return bytes;
}

size_t Bytes(const Event& event) {
  if (const auto* delta = std::get_if<DeltaEvent>(&event)) return delta->text.size() + Bytes(delta->tokens);
  if (const auto* scores = std::get_if<PromptScoresEvent>(&event)) return Bytes(scores->tokens);
  return 0;
}

int Tokens(const Event& event) {
  const auto* delta = std::get_if<DeltaEvent>(&event);
  return delta == nullptr ? 0 : delta->num_tokens;
}

}  // namespace

void Outbox::Append(Event event) {
  std::shared_ptr<Transport> reader;
  {
    MutexLock lock(mutex_);
    YOIO_CHECK(!ended_) << "an event after the end of its stream";
    tokens_ += Tokens(event);
    bytes_ += Bytes(event);
    if (!Merge(event)) events_.push_back(std::move(event));
    if (over_bound() && !full_since_) full_since_ = Clock::now();
    reader = WakeReader();
  }
  if (reader != nullptr) reader->Ready();
}

void Outbox::End(absl::Status status, std::optional<SummaryEvent> so_far) {
  std::shared_ptr<Transport> reader;
  {
    MutexLock lock(mutex_);
    YOIO_CHECK(!ended_) << "a stream ends once";
    ended_ = true;
    end_ = std::move(status);
    so_far_ = std::move(so_far);
    reader = WakeReader();
    if (reader == nullptr) transport_->EndWaits();
  }
  if (reader != nullptr) reader->Ready();
}

bool Outbox::Take(Taken& taken) {
  taken.events.clear();
  std::shared_ptr<Transport> done;  // dies outside the lock
  MutexLock lock(mutex_);
  taken.events.swap(events_);
  taken.end = std::exchange(end_, std::nullopt);
  taken.so_far = std::exchange(so_far_, std::nullopt);
  tokens_ = 0;
  bytes_ = 0;
  if (full_since_) blocked_ += Clock::now() - *full_since_;
  full_since_.reset();
  if (taken.end) done = std::move(transport_);
  reader_busy_ = !taken.empty();
  return reader_busy_;
}

bool Outbox::full() const {
  MutexLock lock(mutex_);
  return over_bound();
}

bool Outbox::empty() const {
  MutexLock lock(mutex_);
  return events_.empty() && !end_;
}

size_t Outbox::bytes() const {
  MutexLock lock(mutex_);
  return bytes_;
}

std::optional<TimePoint> Outbox::full_since() const {
  MutexLock lock(mutex_);
  return full_since_;
}

Duration Outbox::blocked() const {
  MutexLock lock(mutex_);
  return full_since_ ? blocked_ + (Clock::now() - *full_since_) : blocked_;
}

bool Outbox::Merge(Event& event) {
  if (const auto* progress = std::get_if<ProgressEvent>(&event)) {
    for (Event& waiting : events_) {
      if (!std::holds_alternative<ProgressEvent>(waiting)) continue;
      waiting = *progress;
      return true;
    }
    return false;
  }
  auto* delta = std::get_if<DeltaEvent>(&event);
  if (delta == nullptr) return false;
  // At most a few events per choice wait, so that a search from the back is short. The order between choices
  // is nobody's business; within one, nothing follows its deltas but its end.
  for (auto waiting = events_.rbegin(); waiting != events_.rend(); ++waiting) {
    auto* earlier = std::get_if<DeltaEvent>(&*waiting);
    if (earlier == nullptr || earlier->choice != delta->choice) continue;
    earlier->text += delta->text;
    std::move(delta->tokens.begin(), delta->tokens.end(), std::back_inserter(earlier->tokens));
    earlier->num_tokens += delta->num_tokens;
    return true;
  }
  return false;
}

std::shared_ptr<Transport> Outbox::WakeReader() {
  return std::exchange(reader_busy_, true) ? nullptr : transport_;
}

}  // namespace yoio
