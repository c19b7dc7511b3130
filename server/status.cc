#include "server/status.h"

#include <google/protobuf/any.pb.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "engine/errors.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"

namespace yoio {
namespace {

constexpr char kDomain[] = "yoio.v1";
// Clients take 8 KiB of metadata by default, and the message travels twice: percent-encoded as the status
// message, base64-encoded inside the details.
constexpr size_t kMaxMessageBytes = 1024;
constexpr Duration kQueueFullRetry = std::chrono::seconds(1);

struct CodeAndReason {
  grpc::StatusCode code;
  std::string_view reason;
};

// The table of codes; `reason` is the one a code has when the status itself does not say.
CodeAndReason Classify(const absl::Status& status, bool engine_failed) {
  switch (status.code()) {
    case absl::StatusCode::kInvalidArgument:
      return {grpc::INVALID_ARGUMENT, "BAD_VALUE"};
    case absl::StatusCode::kNotFound:
      return {grpc::NOT_FOUND, "UNKNOWN_REQUEST"};
    case absl::StatusCode::kAlreadyExists:
      return {grpc::ALREADY_EXISTS, "REQUEST_ID_IN_USE"};
    case absl::StatusCode::kUnimplemented:
      return {grpc::UNIMPLEMENTED, "UNSUPPORTED_FIELD"};
    case absl::StatusCode::kUnauthenticated:
      return {grpc::UNAUTHENTICATED, "BAD_CREDENTIAL"};
    case absl::StatusCode::kPermissionDenied:
      return {grpc::PERMISSION_DENIED, "NOT_ALLOWED"};
    case absl::StatusCode::kResourceExhausted:
      return {grpc::RESOURCE_EXHAUSTED, "QUEUE_FULL"};
    case absl::StatusCode::kDeadlineExceeded:
      return {grpc::DEADLINE_EXCEEDED, "EXPIRED"};
    case absl::StatusCode::kAborted:
      return {grpc::ABORTED, "SLOW_READER"};
    case absl::StatusCode::kCancelled:
      return {grpc::CANCELLED, "CLIENT_CANCELLED"};
    case absl::StatusCode::kUnavailable:
      return {grpc::UNAVAILABLE, engine_failed ? "ENGINE_FAILED" : "DRAINING"};
    default:
      return {grpc::INTERNAL, "BUG"};
  }
}

// At most kMaxMessageBytes, cut before a UTF-8 character and not within one.
std::string Shorten(absl::string_view message) {
  if (message.size() <= kMaxMessageBytes) return std::string(message);
  size_t end = kMaxMessageBytes - 3;
  while (end > 0 && (static_cast<unsigned char>(message[end]) & 0xc0) == 0x80) --end;
  return absl::StrCat(message.substr(0, end), "...");
}

google::rpc::ErrorInfo MakeErrorInfo(const std::string& reason, const ErrorContext& context) {
  google::rpc::ErrorInfo info;
  info.set_domain(kDomain);
  info.set_reason(reason);
  auto& metadata = *info.mutable_metadata();
  if (!context.request_id.empty()) metadata["request_id"] = std::string(context.request_id);
  metadata["accepted"] = context.accepted ? "true" : "false";
  metadata["tokens_sent"] = absl::StrCat(context.tokens_sent);
  if (reason == "ENGINE_FAILED" && context.accepted) metadata["suspect"] = "true";
  return info;
}

}  // namespace

CallError ToCallError(const absl::Status& status, const ErrorContext& context) {
  YOIO_CHECK(!status.ok());
  const CodeAndReason classified = Classify(status, context.engine_failed);
  CallError error;
  error.reason = ReasonOf(status);
  if (error.reason.empty()) error.reason = classified.reason;

  google::rpc::Status details;
  details.set_code(classified.code);
  details.set_message(Shorten(status.message()));
  details.add_details()->PackFrom(MakeErrorInfo(error.reason, context));
  if (error.reason == "QUEUE_FULL") {
    error.retry_after = kQueueFullRetry;
    google::rpc::RetryInfo retry;
    retry.mutable_retry_delay()->set_seconds(
        std::chrono::duration_cast<std::chrono::seconds>(kQueueFullRetry).count());
    details.add_details()->PackFrom(retry);
  }
  error.status = grpc::Status(classified.code, details.message(), details.SerializeAsString());
  return error;
}

}  // namespace yoio
