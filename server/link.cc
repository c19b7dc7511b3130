#include "server/link.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace yoio {
namespace {

LinkMessage BreakMessage(const absl::Status& status) {
  LinkMessage message;
  message.mutable_broken()->set_code(static_cast<int>(status.code()));
  message.mutable_broken()->set_message(std::string(status.message()));
  return message;
}

// Never OK, whatever the other end says.
absl::Status ReasonIn(const google::rpc::Status& broken) {
  const auto code = static_cast<absl::StatusCode>(broken.code());
  return {code == absl::StatusCode::kOk ? absl::StatusCode::kInternal : code, broken.message()};
}

}  // namespace

void Link::Send(std::string message) {
  MutexLock lock(mutex_);
  if (!broken_.ok()) return;
  to_write_.emplace_back().set_data(std::move(message));
  Pump();
}

absl::StatusOr<std::string> Link::Receive(TimePoint deadline) {
  MutexLock lock(mutex_);
  while (received_.empty() && broken_.ok()) {
    if (Clock::now() >= deadline) return absl::DeadlineExceededError(absl::StrCat(peer_, " says nothing"));
    changed_.WaitUntil(mutex_, deadline);
  }
  if (received_.empty()) return broken_;
  std::string message = std::move(received_.front());
  received_.pop_front();
  return message;
}

void Link::Break(absl::Status status) {
  MutexLock lock(mutex_);
  if (!broken_.ok()) return;
  to_write_.push_back(BreakMessage(status));
  broken_ = std::move(status);
  changed_.NotifyAll();
  Pump();
}

void Link::AwaitDone(TimePoint deadline) {
  MutexLock lock(mutex_);
  while (!done_ && Clock::now() < deadline) changed_.WaitUntil(mutex_, deadline);
  if (stream_ != nullptr) stream_->Cancel();
  while (!done_) changed_.Wait(mutex_);
}

void Link::OnOpened() {
  MutexLock lock(mutex_);
  opened_ = true;
  changed_.NotifyAll();
}

void Link::OnRead(LinkMessage message) {
  MutexLock lock(mutex_);
  if (!broken_.ok()) return;
  if (message.has_broken()) {
    broken_ = ReasonIn(message.broken());
    to_write_.clear();
  } else {
    received_.push_back(std::move(*message.mutable_data()));
  }
  changed_.NotifyAll();
  Pump();
}

void Link::OnReadsEnded() {
  MutexLock lock(mutex_);
  writable_ = false;
  to_write_.clear();
  Pump();
}

void Link::OnWritten(bool ok) {
  MutexLock lock(mutex_);
  writing_ = false;
  if (!ok) {
    writable_ = false;
    to_write_.clear();
  }
  Pump();
}

void Link::Detach() {
  MutexLock lock(mutex_);
  stream_ = nullptr;
}

void Link::OnDone(absl::Status status) {
  MutexLock lock(mutex_);
  done_ = true;
  if (broken_.ok()) {
    broken_ = opened_ || status.ok() ? Gone(std::string(status.message())) : std::move(status);
  }
  changed_.NotifyAll();
}

absl::Status Link::WaitUntilOpened(TimePoint deadline) {
  MutexLock lock(mutex_);
  while (!opened_ && broken_.ok() && Clock::now() < deadline) changed_.WaitUntil(mutex_, deadline);
  if (opened_) return absl::OkStatus();
  return broken_.ok() ? absl::DeadlineExceededError(absl::StrCat(peer_, " does not answer")) : broken_;
}

absl::Status Link::Gone(const std::string& detail) const {
  return absl::UnavailableError(
      absl::StrCat("the connection to ", peer_, " is lost", detail.empty() ? "" : ": ", detail));
}

void Link::Pump() {
  if (writing_ || finished_ || stream_ == nullptr) return;
  if (!to_write_.empty() && writable_) {
    writing_ = true;
    in_flight_ = std::move(to_write_.front());
    to_write_.pop_front();
    stream_->Write(in_flight_);
  } else if (!broken_.ok() || !writable_) {
    finished_ = true;
    stream_->Finish();
  }
}

}  // namespace yoio
