#include "server/call.h"

#include <grpcpp/server_context.h>

#include <algorithm>
#include <random>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "engine/errors.h"
#include "server/status.h"
#include "server/unknown_fields.h"
#include "server/version.h"
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

// "DEADLINE_EXCEEDED": absl's codes are gRPC's.
std::string CodeName(grpc::StatusCode code) {
  return absl::StatusCodeToString(static_cast<absl::StatusCode>(code));
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
  if (message.has_request_id()) {
    YOIO_RETURN_IF_ERROR(CheckRequestId(message.request_id(), core_.engine.limits().max_request_id_bytes));
    id_ = message.request_id();
  } else {
    id_ = DrawRequestId();
  }
  YOIO_RETURN_IF_ERROR(CheckNothingUnknown(message));
  YOIO_ASSIGN_OR_RETURN(Request request, ToRequest(message, core_.model));
  if (request.priority > caller.max_priority) {
    return absl::PermissionDeniedError("priority: above the highest that this key allows");
  }
  deadline_ = DeadlineOf(context_);
  view_ = {
      .model = &core_.model,
      .ids = request.output_ids,
      .logprobs = request.logprobs.output,
      .deadline = request.time_budget ? std::min(deadline_, arrival_ + *request.time_budget) : deadline_};
  request.id = id_;
  request.tenant = tenant_;
  request.tenant_limits = caller.limits;
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
  for (const Event& event : taken.events) {
    if (const auto* summary = std::get_if<SummaryEvent>(&event)) summary_ = *summary;
  }
  if (taken.so_far) summary_ = taken.so_far;
  return true;
}

void Call::NoteSent(const Event& event) {
  if (std::holds_alternative<AcceptedEvent>(event)) accepted_ = true;
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
  if (status.ok()) {
    ++core_.counters.ok;
    WriteLogLine(grpc::Status::OK, "");
    return grpc::Status::OK;
  }
  ++core_.counters.failed;
  CallError error =
      Fail(core_, context_, status, {.request_id = id_, .accepted = accepted_, .tokens_sent = tokens_sent_});
  ++core_.counters.failed_by_code[error.status.error_code()];
  if (accepted_) AddTimingTrailer();
  WriteLogLine(error.status, error.reason);
  return std::move(error.status);
}

void Call::AddTimingTrailer() {
  v1::Timing timing;
  ToProto(summary_ ? summary_->timing : Timing{}, view_, timing);
  ToProto(Clock::now() - arrival_, *timing.mutable_total());
  context_.AddTrailingMetadata("yoio-timing-bin", timing.SerializeAsString());
}

void Call::WriteLogLine(const grpc::Status& status, std::string_view reason) const {
  if (!core_.log.Writes(LogLevel::kInfo)) return;
  LogLine line(LogLevel::kInfo, "request");
  line.With("method", method_)
      .With("tenant", tenant_)
      .With("request_id", id_)
      .With("code", CodeName(status.error_code()));
  if (!reason.empty()) line.With("reason", reason).With("accepted", accepted_);
  if (summary_) {
    const auto& [usage, timing] = *summary_;
    line.With("prompt_tokens", usage.prompt_tokens)
        .With("completion_tokens", usage.completion_tokens)
        .With("queue_length", timing.queue_length_on_arrival)
        .With("tokenize_s", timing.tokenize)
        .With("queue_s", timing.queue)
        .With("prefill_s", timing.prefill)
        .With("first_token_s", timing.time_to_first_token)
        .With("decode_s", timing.decode)
        .With("longest_gap_s", timing.longest_gap)
        .With("longest_gap_step", timing.longest_gap_step)
        .With("blocked_on_client_s", timing.blocked_on_client);
  } else {
    line.With("tokens_sent", tokens_sent_);
  }
  line.With("total_s", Clock::now() - arrival_);
  core_.log.Write(std::move(line));
}

grpc::Status CloseSimpleCall(ServingCore& core, grpc::CallbackServerContext& context,
                             const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  return Fail(core, context, status, {}).status;
}

}  // namespace yoio
