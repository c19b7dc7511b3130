// Every status of the engine becomes the gRPC status of the contract, with its details.
#include "server/status.h"

#include <google/protobuf/any.pb.h>
#include <gtest/gtest.h>

#include "engine/errors.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "yoio/v1/errors.pb.h"

namespace yoio {
namespace {

google::rpc::Status Details(const grpc::Status& status) {
  google::rpc::Status details;
  EXPECT_TRUE(details.ParseFromString(status.error_details()));
  return details;
}

google::rpc::ErrorInfo InfoOf(const grpc::Status& status) {
  google::rpc::ErrorInfo info;
  EXPECT_TRUE(Details(status).details(0).UnpackTo(&info));
  return info;
}

struct Case {
  absl::Status status;
  grpc::StatusCode code;
  std::string reason;
};

TEST(StatusTest, CodesAndReasons) {
  const std::vector<Case> cases = {
      {absl::InvalidArgumentError("m"), grpc::INVALID_ARGUMENT, "BAD_VALUE"},
      {absl::NotFoundError("m"), grpc::NOT_FOUND, "UNKNOWN_REQUEST"},
      {absl::AlreadyExistsError("m"), grpc::ALREADY_EXISTS, "REQUEST_ID_IN_USE"},
      {absl::UnimplementedError("m"), grpc::UNIMPLEMENTED, "UNSUPPORTED_FIELD"},
      {absl::UnauthenticatedError("m"), grpc::UNAUTHENTICATED, "BAD_CREDENTIAL"},
      {absl::PermissionDeniedError("m"), grpc::PERMISSION_DENIED, "NOT_ALLOWED"},
      {absl::ResourceExhaustedError("m"), grpc::RESOURCE_EXHAUSTED, "QUEUE_FULL"},
      {absl::DeadlineExceededError("m"), grpc::DEADLINE_EXCEEDED, "EXPIRED"},
      {absl::AbortedError("m"), grpc::ABORTED, "SLOW_READER"},
      {absl::CancelledError("m"), grpc::CANCELLED, "CLIENT_CANCELLED"},
      {absl::UnavailableError("m"), grpc::UNAVAILABLE, "DRAINING"},
      {absl::InternalError("m"), grpc::INTERNAL, "BUG"},
      {absl::DataLossError("m"), grpc::INTERNAL, "BUG"},
      {absl::UnknownError("m"), grpc::INTERNAL, "BUG"},
      {WithReason(absl::StatusCode::kNotFound, "UNKNOWN_MODEL", "m"), grpc::NOT_FOUND, "UNKNOWN_MODEL"},
      {WithReason(absl::StatusCode::kCancelled, "ABORTED_BY_CALL", "m"), grpc::CANCELLED, "ABORTED_BY_CALL"},
  };
  for (const Case& c : cases) {
    const CallError error = ToCallError(c.status, {});
    EXPECT_EQ(error.status.error_code(), c.code) << c.status;
    EXPECT_EQ(error.status.error_message(), "m");
    EXPECT_EQ(error.reason, c.reason);
    EXPECT_EQ(InfoOf(error.status).reason(), c.reason);
    EXPECT_EQ(InfoOf(error.status).domain(), "yoio.v1");
    EXPECT_EQ(Details(error.status).code(), c.code);
    v1::ErrorReason documented;
    EXPECT_TRUE(v1::ErrorReason_Parse("ERROR_REASON_" + c.reason, &documented)) << c.reason;
  }
}

TEST(StatusTest, MetadataTellsHowFarTheCallCame) {
  const CallError error =
      ToCallError(absl::AbortedError("too slow"), {.request_id = "r-1", .accepted = true, .tokens_sent = 17});
  const google::rpc::ErrorInfo info = InfoOf(error.status);
  const auto& metadata = info.metadata();
  EXPECT_EQ(metadata.at("request_id"), "r-1");
  EXPECT_EQ(metadata.at("accepted"), "true");
  EXPECT_EQ(metadata.at("tokens_sent"), "17");
  EXPECT_FALSE(metadata.contains("suspect"));
  EXPECT_FALSE(InfoOf(ToCallError(absl::AbortedError(""), {}).status).metadata().contains("request_id"));
}

TEST(StatusTest, OnlyAFullQueueSaysWhenToRetry) {
  const CallError full = ToCallError(absl::ResourceExhaustedError("full"), {});
  ASSERT_TRUE(full.retry_after.has_value());
  google::rpc::RetryInfo retry;
  ASSERT_EQ(Details(full.status).details_size(), 2);
  ASSERT_TRUE(Details(full.status).details(1).UnpackTo(&retry));
  EXPECT_GE(retry.retry_delay().seconds(), 1);
  EXPECT_FALSE(ToCallError(absl::UnavailableError(""), {}).retry_after.has_value());
}

TEST(StatusTest, AcceptedRequestsOfADeadEngineAreSuspect) {
  const absl::Status status = absl::UnavailableError("rank 1 is gone");
  const CallError accepted = ToCallError(status, {.accepted = true, .engine_failed = true});
  EXPECT_EQ(accepted.reason, "ENGINE_FAILED");
  EXPECT_EQ(InfoOf(accepted.status).metadata().at("suspect"), "true");
  EXPECT_FALSE(InfoOf(ToCallError(status, {.engine_failed = true}).status).metadata().contains("suspect"));
}

TEST(StatusTest, LongMessagesAreCutBetweenCharacters) {
  std::string message;
  while (message.size() < 5000) message += "\xc3\xa4";
  const std::string cut = ToCallError(absl::InvalidArgumentError(message), {}).status.error_message();
  EXPECT_LE(cut.size(), 1024u);
  EXPECT_EQ(cut.substr(cut.size() - 5), "\xc3\xa4...");
}

}  // namespace
}  // namespace yoio
