#include "client/error_details.h"

#include <grpcpp/client_context.h>
#include <grpcpp/support/status.h>

#include <chrono>

#include "absl/strings/cord.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"

namespace yoio {
namespace {

template <typename Message>
std::string TypeUrl() {
  return absl::StrCat("type.googleapis.com/", Message::descriptor()->full_name());
}

template <typename Message>
std::optional<Message> Payload(const absl::Status& status) {
  const auto bytes = status.GetPayload(TypeUrl<Message>());
  Message message;
  if (!bytes || !message.ParseFromString(std::string(*bytes))) return std::nullopt;
  return message;
}

std::string Find(const google::rpc::ErrorInfo& info, const char* key) {
  const auto entry = info.metadata().find(key);
  return entry == info.metadata().end() ? "" : entry->second;
}

}  // namespace

ErrorDetails DetailsOf(const absl::Status& status) {
  ErrorDetails details;
  if (const auto info = Payload<google::rpc::ErrorInfo>(status)) {
    details.reason = info->reason();
    details.request_id = Find(*info, "request_id");
    details.accepted = Find(*info, "accepted") == "true";
    details.suspect = Find(*info, "suspect") == "true";
    if (!absl::SimpleAtoi(Find(*info, "tokens_sent"), &details.tokens_sent)) details.tokens_sent = 0;
  }
  if (const auto retry = Payload<google::rpc::RetryInfo>(status)) {
    const auto& delay = retry->retry_delay();
    details.retry_after = std::chrono::seconds(delay.seconds()) + std::chrono::nanoseconds(delay.nanos());
  }
  details.timing = Payload<v1::Timing>(status);
  return details;
}

absl::Status FromGrpc(const grpc::Status& status, const grpc::ClientContext& context) {
  if (status.ok()) return absl::OkStatus();
  absl::Status result(static_cast<absl::StatusCode>(status.error_code()), status.error_message());
  google::rpc::Status rich;
  if (rich.ParseFromString(status.error_details())) {
    for (const google::protobuf::Any& detail : rich.details()) {
      result.SetPayload(detail.type_url(), absl::Cord(detail.value()));
    }
  }
  const auto& trailers = context.GetServerTrailingMetadata();
  if (const auto timing = trailers.find("yoio-timing-bin"); timing != trailers.end()) {
    result.SetPayload(TypeUrl<v1::Timing>(),
                      absl::Cord(absl::string_view(timing->second.data(), timing->second.size())));
  }
  return result;
}

}  // namespace yoio
