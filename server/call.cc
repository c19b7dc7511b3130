#include "server/call.h"

#include <grpcpp/server_context.h>

#include <algorithm>
#include <random>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "engine/errors.h"
#include "server/request_log.h"
#include "server/status.h"
#include "server/trace/request_spans.h"
#include "server/trace/span_maker.h"
#include "server/trace/tracer.h"
#include "server/unknown_fields.h"
#include "yoio/v1/request.pb.h"
#include "yoio/v1/timing.pb.h"

namespace yoio {
namespace {

// 64 random bits: two live requests of one tenant get the same id once in centuries, and are then told.
std::string DrawRequestId() {
  std::random_device device;
  const uint64_t bits = (static_cast<uint64_t>(device()) << 32) | device();
  return absl::StrCat(absl::Hex(bits, absl::kZeroPad16));
}

// The deadline of the call on the steady clock; max() for none.
TimePoint DeadlineOf(const grpc::CallbackServerContext& context) {
  const auto deadline = context.deadline();
  if (deadline == std::chrono::system_clock::time_point::max()) return TimePoint::max();
  return Clock::now() + std::chrono::duration_cast<Duration>(deadline - std::chrono::system_clock::now());
}

// `status` as a gRPC status, with the trailer that tells clients when to retry.
CallError Fail(ServingCore& core, grpc::CallbackServerContext& context, const absl::Status& status,
               ErrorContext what) {
  what.engine_failed = !core.engine.health().ok();
  CallError error = ToCallError(status, what);
  if (error.retry_after) {
    const auto wait = std::chrono::duration_cast<std::chrono::milliseconds>(*error.retry_after);
    context.AddTrailingMetadata("grpc-retry-pushback-ms", absl::StrCat(wait.count()));
  } else if (what.accepted) {
    context.AddTrailingMetadata("grpc-retry-pushback-ms", "-1");  // or gRPC would run a unary call again
  }
  return error;
}

// Adds what follows the last token, up to `now`.
void Extend(Timing& timing, TimePoint arrival, TimePoint now) {
  timing.total = now - arrival;
  timing.deliver = timing.total - timing.tokenize - timing.queue - timing.prefill - timing.decode;
}

// What a record keeps of `event`: nothing that came from the prompt, no token ids.
AcceptedEvent WithoutContent(const AcceptedEvent& event) {
  AcceptedEvent kept = event;
  kept.sampling.logit_bias.clear();
  return kept;
}

}  // namespace

bool LiveIds::Add(const std::string& tenant, const std::string& id) {
  MutexLock lock(mutex_);
  return ids_.emplace(tenant, id).second;
}

void LiveIds::Remove(const std::string& tenant, const std::string& id) {
  MutexLock lock(mutex_);
  ids_.erase(TenantAndId(tenant, id));
}

absl::StatusOr<Caller> IdentifyCaller(const ServingCore& core, const grpc::CallbackServerContext& context) {
  if (core.authenticator == nullptr) return Caller{};
  return core.authenticator->Authenticate(context);
}

template <typename Message>
absl::Status Call::StartAny(const Message& message, std::shared_ptr<Transport> transport) {
  YOIO_ASSIGN_OR_RETURN(Caller caller, IdentifyCaller(core_, context_));
  return Submit(message, std::move(caller), std::move(transport));
}

template <typename Message>
absl::Status Call::Submit(const Message& message, Caller caller, std::shared_ptr<Transport> transport) {
  tenant_ = std::move(caller.tenant);
  if (core_.tracer != nullptr) trace_ = core_.tracer->StartCall(context_, tenant_);
  if (message.has_request_id()) {
    YOIO_RETURN_IF_ERROR(CheckRequestId(message.request_id(), core_.engine.limits().max_request_id_bytes));
    id_ = message.request_id();
  } else {
    id_ = DrawRequestId();
  }
  YOIO_RETURN_IF_ERROR(CheckNothingUnknown(message));
  YOIO_ASSIGN_OR_RETURN(Request request, ToRequest(message, core_.model));
  if (message.priority() == v1::PRIORITY_UNSPECIFIED) {
    request.priority = std::min(request.priority, caller.max_priority);
  }
  if (request.priority > caller.max_priority) {
    return absl::PermissionDeniedError("priority: above the highest that this key allows");
  }
  deadline_ = DeadlineOf(context_);
  view_ = {.model = &core_.model,
           .ids = request.output_ids,
           .logprobs = request.logprobs.output,
           .deadline = request.time_budget ? std::min(deadline_, arrival_ + *request.time_budget) : deadline_,
           .trace = trace_.id,
           .place = &core_.place};
  request.id = id_;
  request.tenant = tenant_;
  request.tenant_limits = caller.limits;
  request.trace = trace_.id;
  request.arrival = arrival_;
  request.deadline = deadline_;
  if (!core_.live_ids.Add(tenant_, id_)) {
    return absl::AlreadyExistsError(
        "request_id: a live request has it; ids are free again when their stream ends");
  }
  owns_id_ = true;
  outbox_ = std::make_shared<Outbox>(std::move(transport));
  return core_.engine.Submit(std::move(request), outbox_);
}

absl::Status Call::Start(const v1::GenerateRequest& message, std::shared_ptr<Transport> transport) {
  return StartAny(message, std::move(transport));
}

absl::Status Call::Start(const v1::GenerateOnceRequest& message, std::shared_ptr<Transport> transport) {
  YOIO_ASSIGN_OR_RETURN(Caller caller, IdentifyCaller(core_, context_));
  YOIO_RETURN_IF_ERROR(CheckNothingUnknown(message));
  return Submit(message.request(), std::move(caller), std::move(transport));
}

absl::Status Call::Start(const v1::ScoreRequest& message, std::shared_ptr<Transport> transport) {
  return StartAny(message, std::move(transport));
}

bool Call::Take(Outbox::Taken& taken) {
  if (!outbox_->Take(taken)) return false;
  for (Event& event : taken.events) Note(event);
  if (taken.so_far) summary_ = taken.so_far;
  return true;
}

void Call::Note(Event& event) {
  if (const auto* accepted = std::get_if<AcceptedEvent>(&event)) {
    request_ = WithoutContent(*accepted);
  } else if (const auto* finished = std::get_if<FinishedEvent>(&event)) {
    finish_reason_ = finished->reason;
  } else if (auto* summary = std::get_if<SummaryEvent>(&event)) {
    Extend(summary->timing, arrival_, Clock::now());
    summary_ = *summary;
  }
}

void Call::NoteSent(const Event& event) {
  if (std::holds_alternative<AcceptedEvent>(event)) {
    accepted_ = true;
    first_sent_ = Clock::now();
  }
  if (const auto* delta = std::get_if<DeltaEvent>(&event)) {
    tokens_sent_ += delta->num_tokens;
  }
}

void Call::Cancel(absl::Status reason) {
  // NOT_FOUND is fine: the request has ended by itself, and its end is in the outbox.
  if (owns_id_) core_.engine.Cancel(tenant_, id_, std::move(reason)).IgnoreError();
}

void Call::CancelByClient() {
  if (Clock::now() >= deadline_) {
    Cancel(
        WithReason(absl::StatusCode::kDeadlineExceeded, kReasonExpired, "the deadline of the call passed"));
  } else {
    Cancel(WithReason(absl::StatusCode::kCancelled, "CLIENT_CANCELLED", "the client cancelled the call"));
  }
}

grpc::Status Call::Close(const absl::Status& status) {
  if (owns_id_.exchange(false)) core_.live_ids.Remove(tenant_, id_);
  const TimePoint now = Clock::now();
  if (summary_) Extend(summary_->timing, arrival_, now);
  if (status.ok()) {
    ++core_.counters.ok;
    Report(MakeRecord(grpc::Status::OK, "", now));
    return grpc::Status::OK;
  }
  ++core_.counters.failed;
  CallError error =
      Fail(core_, context_, status, {.request_id = id_, .accepted = accepted_, .tokens_sent = tokens_sent_});
  ++core_.counters.failed_by_code[error.status.error_code()];
  if (accepted_) AddTimingTrailer(now);
  Report(MakeRecord(error.status, std::move(error.reason), now));
  return std::move(error.status);
}

void Call::AddTimingTrailer(TimePoint now) {
  Timing timing = summary_ ? summary_->timing : Timing{};
  if (!summary_) Extend(timing, arrival_, now);
  v1::Timing message;
  ToProto(timing, view_, message);
  context_.AddTrailingMetadata("yoio-timing-bin", message.SerializeAsString());
}

CallRecord Call::MakeRecord(const grpc::Status& status, std::string reason, TimePoint now) {
  CallRecord record;
  record.method = method_;
  record.tenant = std::move(tenant_);
  record.request_id = std::move(id_);
  if (request_) record.number = request_->number;
  record.trace = trace_.id;
  record.parent_span = trace_.parent_span;
  record.trace_state = std::move(trace_.trace_state);
  record.arrival = arrival_;
  record.ended = now;
  record.code = status.error_code();
  record.reason = std::move(reason);
  record.accepted = accepted_;
  record.tokens_sent = tokens_sent_;
  if (view_.deadline != TimePoint::max()) {
    record.deadline_left = std::max(view_.deadline - now, Duration::zero());
  }
  record.request = std::move(request_);
  record.finish_reason = finish_reason_;
  record.summary = summary_;
  record.first_sent = first_sent_;
  return record;
}

void Call::Report(const CallRecord& record) const {
  WriteRequestLine(record, core_.place, core_.model.info->revision, core_.log);
  FlightRecorder* recorder = core_.engine.recorder();
  if (recorder != nullptr && record.number > 0 && record.summary) {
    recorder->Closed(record.number, static_cast<absl::StatusCode>(record.code), record.reason,
                     record.summary->usage, record.summary->timing);
  }
  for (CallObserver* observer : core_.observers) observer->Ended(record);
}

absl::StatusOr<Caller> SimpleCall::Identify() {
  YOIO_ASSIGN_OR_RETURN(Caller caller, IdentifyCaller(*core_, *context_));
  tenant_ = caller.tenant;
  if (core_->tracer != nullptr) trace_ = core_->tracer->StartCall(*context_, tenant_);
  return caller;
}

grpc::Status SimpleCall::Close(const absl::Status& status) {
  CallRecord record;
  grpc::Status result;
  if (!status.ok()) {
    CallError error = Fail(*core_, *context_, status, {});
    record.reason = std::move(error.reason);
    result = std::move(error.status);
  }
  if (!trace_.id.sampled) return result;
  record.method = method_;
  record.tenant = tenant_;
  record.trace = trace_.id;
  record.parent_span = trace_.parent_span;
  record.trace_state = std::move(trace_.trace_state);
  record.arrival = arrival_;
  record.ended = Clock::now();
  record.code = result.error_code();
  core_->tracer->Export({SimpleCallSpan(record, SpanMaker(*core_->tracer))});
  return result;
}

}  // namespace yoio
