// Who calls: what a caller may do reaches the engine, and who may not call gets nothing done.
#include "server/auth.h"

#include <gmock/gmock.h>
#include <grpcpp/server_context.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>

#include "server/token.h"
#include "tests/server/in_process.h"
#include "tests/support/temporary_directory.h"

namespace yoio {
namespace {

using testing::HasSubstr;

constexpr char kKeys[] = R"([
  {"sha256": "8ed3f6ad685b959ead7022518e1af76cd816f8e8ec7ccdda1ed4018e8f2223f8", "tenant": "search",
   "max_priority": "low", "limits": {"max_requests": 3}},
  {"sha256": "f44e64e75f3948e9f73f8dfa94721c4ce8cbb4f265c4790c702b2d41cfbf2753", "tenant": "mail"}])";

// A server whose callers need the key "alpha" (search) or "beta" (mail).
struct Guarded : InProcess {
  explicit Guarded(bool reflection = false) : InProcess(reflection) { core.authenticator = &authenticator; }

  // The status of a Generate that the engine answers at once.
  grpc::Status Generate(const std::string& key, const v1::GenerateRequest& request) {
    grpc::ClientContext context;
    if (!key.empty()) context.AddMetadata(kTokenMetadataKey, TokenMetadata(key));
    const auto stream = stub->Generate(&context, request);
    v1::GenerateResponse event;
    while (stream->Read(&event)) {
    }
    return stream->Finish();
  }

  test::TemporaryDirectory directory;
  const std::string path = directory.Write("keys.json", kKeys);
  const std::unique_ptr<Reloaded<ApiKeys>> keys = *Reloaded<ApiKeys>::Open(
      "--api-keys", {path}, [this] { return ApiKeys::Read(path, {}); }, log.logger);
  const ServerAuthenticator authenticator{{.keys = keys.get()}};
};

v1::GenerateRequest Prompt(const std::string& id = "") {
  v1::GenerateRequest request;
  request.set_text("abc");
  if (!id.empty()) request.set_request_id(id);
  return request;
}

TEST(AuthTest, TheCallerReachesTheEngine) {
  Guarded server;
  const auto submitted_by = [&](const char* key) {
    grpc::ClientContext context;
    context.AddMetadata(kTokenMetadataKey, TokenMetadata(key));
    const auto stream = server.stub->Generate(&context, Prompt());
    const auto submitted = server.engine.WaitForRequest();
    submitted->Accept();
    submitted->Complete();
    v1::GenerateResponse event;
    while (stream->Read(&event)) {
    }
    EXPECT_TRUE(stream->Finish().ok());
    return submitted->request();
  };
  const Request searched = submitted_by("alpha");
  EXPECT_EQ(searched.tenant, "search");
  EXPECT_EQ(searched.tenant_limits.max_requests, 3);
  EXPECT_EQ(searched.priority, Priority::kLow);  // the request names none
  const Request mailed = submitted_by("beta");
  EXPECT_EQ(mailed.tenant, "mail");
  EXPECT_EQ(mailed.tenant_limits, TenantLimits{});
  EXPECT_EQ(mailed.priority, Priority::kNormal);
}

TEST(AuthTest, WhoHasNoKeyGetsNothingDone) {
  Guarded server;
  for (const char* key : {"", "gamma", "ALPHA"}) {
    const grpc::Status status = server.Generate(key, v1::GenerateRequest());  // not even checked
    EXPECT_EQ(status.error_code(), grpc::UNAUTHENTICATED);
    EXPECT_EQ(ErrorInfoOf(status).reason(), "BAD_CREDENTIAL");
  }
  EXPECT_EQ(server.engine.num_live(), 0);
}

TEST(AuthTest, APriorityAboveTheKeysHighestIsRefused) {
  Guarded server;
  const auto ask = [&](const char* key, v1::Priority priority) {
    v1::GenerateRequest request = Prompt();
    request.set_priority(priority);
    return server.Generate(key, request);
  };
  for (const auto& [key, priority] :
       {std::pair("alpha", v1::PRIORITY_NORMAL), {"alpha", v1::PRIORITY_HIGH}, {"beta", v1::PRIORITY_HIGH}}) {
    const grpc::Status status = ask(key, priority);
    EXPECT_EQ(status.error_code(), grpc::PERMISSION_DENIED);
    EXPECT_EQ(ErrorInfoOf(status).reason(), "NOT_ALLOWED");
    EXPECT_THAT(status.error_message(), HasSubstr("priority"));
  }
  EXPECT_EQ(server.engine.num_live(), 0);
  server.engine.AnswerWith("x");
  EXPECT_TRUE(ask("alpha", v1::PRIORITY_LOW).ok());
  EXPECT_TRUE(ask("beta", v1::PRIORITY_NORMAL).ok());
}

TEST(AuthTest, EachTenantHasItsOwnIds) {
  Guarded server;
  const auto start = [&](const char* key, grpc::ClientContext& context) {
    context.AddMetadata(kTokenMetadataKey, TokenMetadata(key));
    return server.stub->Generate(&context, Prompt("same"));
  };
  grpc::ClientContext first, second, third;
  const auto searching = start("alpha", first);
  const auto searched = server.engine.WaitForRequest();
  const auto mailing = start("beta", second);
  const auto mailed = server.engine.WaitForRequest();
  EXPECT_EQ(start("alpha", third)->Finish().error_code(), grpc::ALREADY_EXISTS);

  grpc::ClientContext aborting;
  aborting.AddMetadata(kTokenMetadataKey, TokenMetadata("beta"));
  v1::AbortRequest abort;
  abort.set_request_id("same");
  v1::AbortResponse done;
  EXPECT_TRUE(server.stub->Abort(&aborting, abort, &done).ok());
  EXPECT_EQ(mailing->Finish().error_code(), grpc::CANCELLED);
  EXPECT_FALSE(searched->ended());
  searched->Accept();
  searched->Complete();
  v1::GenerateResponse event;
  while (searching->Read(&event)) {
  }
  EXPECT_TRUE(searching->Finish().ok());
  EXPECT_EQ(server.core.counters.failed_by_code[grpc::ALREADY_EXISTS], 1);
}

}  // namespace
}  // namespace yoio
