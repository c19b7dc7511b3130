#include "client/load/stream.h"

#include <chrono>

#include "client/error_details.h"

namespace yoio {
namespace {

std::chrono::system_clock::time_point FromNow(Duration duration) {
  return std::chrono::system_clock::now() +
         std::chrono::duration_cast<std::chrono::system_clock::duration>(duration);
}

Duration Scaled(Duration duration, double by) { return FromSeconds(ToSeconds(duration) * by); }

}  // namespace

void Stream::Start(v1::InferenceService::Stub& stub, const v1::GenerateRequest& request,
                   const RequestPlan& plan, TimePoint due) {
  auto context = std::make_shared<grpc::ClientContext>();
  call_ = context.get();
  plan_ = plan;
  outcome_ = RequestOutcome();
  outcome_.due = due;
  inject_at_ = static_cast<int64_t>(plan.moment * plan.output_tokens);
  if (plan.injection == Injection::kExpire) {
    call_->set_deadline(FromNow(Scaled(options_.expire_within, plan.moment)));
  } else if (options_.deadline) {
    call_->set_deadline(FromNow(*options_.deadline));
  }
  {
    MutexLock lock(mutex_);
    context_ = std::move(context);
  }
  stub.async()->Generate(call_, &request, this);
  if (plan.injection == Injection::kCancel && options_.cancel_within) SetCancelTimer();
  outcome_.sent = Clock::now();
  measurements_.Sent(plan_, due, outcome_.sent);
  const bool cancel_now = plan.injection == Injection::kCancel && !options_.cancel_within && inject_at_ == 0;
  if (cancel_now) {
    outcome_.injected = true;
    AddHold();  // after StartCall nothing else keeps the call from being done
  }
  ReadNext();
  StartCall();
  if (cancel_now) {
    call_->TryCancel();
    RemoveHold();
  }
}

void Stream::Cancel() {
  std::shared_ptr<grpc::ClientContext> context;
  {
    MutexLock lock(mutex_);
    context = context_;
  }
  if (context == nullptr) return;
  cut_off_.store(true);
  context->TryCancel();  // may end the call on this thread: no lock is held
}

void Stream::ReadNext() {
  arena_.Reset();
  event_ = google::protobuf::Arena::CreateMessage<v1::GenerateResponse>(&arena_);
  StartRead(event_);
}

void Stream::OnReadDone(bool ok) {
  if (!ok) {
    if (alarm_) alarm_->Cancel();
    return;
  }
  const int64_t before = outcome_.tokens;
  if (event_->has_delta()) Count(Clock::now());
  if (plan_.injection == Injection::kSlowReader && outcome_.tokens > before) {
    const bool stops_once = plan_.index % 2 == 0;
    if (!stops_once) return PauseFor(options_.slow_for / 10);
    if (before <= inject_at_ && inject_at_ < outcome_.tokens) return PauseFor(options_.slow_for);
  }
  if (plan_.injection == Injection::kCancel && !options_.cancel_within && outcome_.tokens >= inject_at_ &&
      outcome_.tokens > before && !outcome_.injected) {
    outcome_.injected = true;
    call_->TryCancel();
  }
  ReadNext();
}

void Stream::Count(TimePoint now) {
  const int tokens = event_->delta().ids_size();
  if (tokens == 0) return;
  const bool first = outcome_.tokens == 0;
  measurements_.Message(plan_, outcome_.due, tokens, now,
                        first ? std::nullopt : std::optional<TimePoint>(outcome_.last_token));
  if (first) outcome_.first_token = now;
  outcome_.last_token = now;
  outcome_.tokens += tokens;
}

// A hold keeps the call from being done while the alarm is set.
void Stream::SetCancelTimer() {
  AddHold();
  alarm_.emplace();
  alarm_->Set(FromNow(Scaled(*options_.cancel_within, plan_.moment)), [this](bool due) {
    if (due) {
      outcome_.injected = true;
      call_->TryCancel();
    }
    RemoveHold();
  });
}

void Stream::PauseFor(Duration pause) {
  outcome_.injected = true;
  AddHold();
  alarm_.emplace();
  alarm_->Set(FromNow(pause), [this](bool) {
    ReadNext();
    RemoveHold();
  });
}

void Stream::OnDone(const grpc::Status& status) {
  outcome_.ended = Clock::now();
  outcome_.status = FromGrpc(status, *call_);
  outcome_.cut_off = cut_off_.exchange(false);
  measurements_.Ended(plan_, outcome_);
  alarm_.reset();
  {
    MutexLock lock(mutex_);
    context_.reset();
  }
  owner_.Ended(*this);
}

}  // namespace yoio
