// The calls that submit nothing to the engine, and the limits of the transport.
#include <gmock/gmock.h>
#include <grpcpp/generic/generic_stub.h>
#include <gtest/gtest.h>

#include "server/version.h"
#include "tests/server/in_process.h"

namespace yoio {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

// Calls `method` of the stub with a context of its own.
template <typename Method, typename Request, typename Response>
grpc::Status Call(InProcess& server, Method method, const Request& request, Response& response) {
  grpc::ClientContext context;
  return (server.stub.get()->*method)(&context, request, &response);
}

TEST(UnaryTest, TokenizeAndDetokenize) {
  InProcess server;
  v1::TokenizeRequest request;
  request.set_text("ab");
  v1::TokenizeResponse tokens;
  ASSERT_TRUE(Call(server, &v1::InferenceService::Stub::Tokenize, request, tokens).ok());
  EXPECT_EQ(tokens.count(), 2);
  EXPECT_THAT(tokens.ids(), ElementsAre('a', 'b'));
  request.set_count_only(true);
  v1::TokenizeResponse count;
  ASSERT_TRUE(Call(server, &v1::InferenceService::Stub::Tokenize, request, count).ok());
  EXPECT_EQ(count.count(), 2);
  EXPECT_EQ(count.ids_size(), 0);

  v1::DetokenizeRequest back;
  *back.mutable_token_ids()->mutable_ids() = tokens.ids();
  v1::DetokenizeResponse text;
  ASSERT_TRUE(Call(server, &v1::InferenceService::Stub::Detokenize, back, text).ok());
  EXPECT_EQ(text.text(), "ab");
}

TEST(UnaryTest, TextCallsSayWhatIsMissing) {
  InProcess server;
  v1::TokenizeResponse tokens;
  v1::DetokenizeResponse text;
  EXPECT_THAT(
      Call(server, &v1::InferenceService::Stub::Tokenize, v1::TokenizeRequest(), tokens).error_message(),
      HasSubstr("text: required"));
  EXPECT_THAT(
      Call(server, &v1::InferenceService::Stub::Detokenize, v1::DetokenizeRequest(), text).error_message(),
      HasSubstr("token_ids: required"));
  v1::TokenizeRequest request;
  request.set_text("");
  EXPECT_TRUE(Call(server, &v1::InferenceService::Stub::Tokenize, request, tokens).ok());
  server.engine.mutable_model().has_tokenizer = false;
  EXPECT_EQ(Call(server, &v1::InferenceService::Stub::Tokenize, request, tokens).error_code(),
            grpc::UNIMPLEMENTED);
}

TEST(UnaryTest, FullTextPoolIsAFullQueue) {
  InProcess server;
  server.engine.FillTextPool();
  v1::TokenizeRequest request;
  request.set_text("a");
  v1::TokenizeResponse response;
  const grpc::Status status = Call(server, &v1::InferenceService::Stub::Tokenize, request, response);
  EXPECT_EQ(status.error_code(), grpc::RESOURCE_EXHAUSTED);
  EXPECT_EQ(ErrorInfoOf(status).reason(), "QUEUE_FULL");
}

TEST(UnaryTest, TooLargeAnswersAreRefused) {
  InProcess server(/*reflection=*/false, /*max_request_bytes=*/8 << 20);
  v1::TokenizeRequest request;
  request.set_text(std::string(kMaxResponseBytes + 1, 'x'));  // a byte each in the answer
  v1::TokenizeResponse tokens;
  const grpc::Status status = Call(server, &v1::InferenceService::Stub::Tokenize, request, tokens);
  EXPECT_EQ(status.error_code(), grpc::INVALID_ARGUMENT);
  EXPECT_EQ(ErrorInfoOf(status).reason(), "ANSWER_TOO_LARGE");
  EXPECT_THAT(status.error_message(), HasSubstr("count_only"));
  request.set_count_only(true);
  EXPECT_TRUE(Call(server, &v1::InferenceService::Stub::Tokenize, request, tokens).ok());

  v1::DetokenizeRequest ids;
  for (size_t i = 0; i <= kMaxResponseBytes; ++i) ids.mutable_token_ids()->add_ids('x');
  v1::DetokenizeResponse text;
  EXPECT_EQ(ErrorInfoOf(Call(server, &v1::InferenceService::Stub::Detokenize, ids, text)).reason(),
            "ANSWER_TOO_LARGE");
}

TEST(UnaryTest, Infos) {
  InProcess server;
  v1::GetModelInfoRequest request;
  v1::GetModelInfoResponse model;
  ASSERT_TRUE(Call(server, &v1::InferenceService::Stub::GetModelInfo, request, model).ok());
  EXPECT_THAT(model.names(), ElementsAre("tiny"));
  EXPECT_EQ(model.max_model_len(), 4096);
  EXPECT_FALSE(model.defaults().has_seed());
  request.set_model("other");
  EXPECT_EQ(Call(server, &v1::InferenceService::Stub::GetModelInfo, request, model).error_code(),
            grpc::NOT_FOUND);

  v1::GetServerInfoResponse info;
  ASSERT_TRUE(
      Call(server, &v1::InferenceService::Stub::GetServerInfo, v1::GetServerInfoRequest(), info).ok());
  EXPECT_EQ(info.version(), kVersion);
  EXPECT_EQ(info.schema_revision(), kSchemaRevision);
  EXPECT_EQ(info.tensor_parallel_size(), 2);
  // Every limit is set: a new field of ServerLimits must be filled.
  std::vector<const google::protobuf::FieldDescriptor*> set;
  info.limits().GetReflection()->ListFields(info.limits(), &set);
  EXPECT_EQ(static_cast<int>(set.size()), info.limits().GetDescriptor()->field_count());

  v1::GetLoadResponse load;
  ASSERT_TRUE(Call(server, &v1::InferenceService::Stub::GetLoad, v1::GetLoadRequest(), load).ok());
  EXPECT_EQ(load.waiting_tokens(), 3);
}

TEST(TransportTest, OversizedRequestIsRefusedAndTheServerGoesOn) {
  InProcess server(/*reflection=*/false, /*max_request_bytes=*/1 << 16);
  v1::TokenizeRequest request;
  v1::TokenizeResponse response;
  request.set_text(std::string(1 << 17, 'x'));
  EXPECT_EQ(Call(server, &v1::InferenceService::Stub::Tokenize, request, response).error_code(),
            grpc::RESOURCE_EXHAUSTED);
  request.set_text("x");
  EXPECT_TRUE(Call(server, &v1::InferenceService::Stub::Tokenize, request, response).ok());
}

TEST(TransportTest, OversizedMetadataIsRefusedAndTheServerGoesOn) {
  InProcess server;
  v1::GetLoadResponse response;
  grpc::ClientContext context;
  context.AddMetadata("x-large", std::string(2 * kMaxMetadataBytes, 'x'));
  EXPECT_EQ(server.stub->GetLoad(&context, {}, &response).error_code(), grpc::RESOURCE_EXHAUSTED);
  // gRPC may close the connection that brought it; whoever has another one is served.
  grpc::ChannelArguments own_connection;
  own_connection.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  const auto other = v1::InferenceService::NewStub(grpc::CreateCustomChannel(
      server.server->address().ToString(), grpc::InsecureChannelCredentials(), own_connection));
  grpc::ClientContext next;
  EXPECT_TRUE(other->GetLoad(&next, {}, &response).ok());
}

TEST(TransportTest, CompressedRequestsAreRefused) {
  InProcess server;
  grpc::ClientContext context;
  context.set_compression_algorithm(GRPC_COMPRESS_GZIP);
  v1::TokenizeRequest request;
  request.set_text(std::string(10'000, 'x'));
  v1::TokenizeResponse response;
  EXPECT_EQ(server.stub->Tokenize(&context, request, &response).error_code(), grpc::UNIMPLEMENTED);
}

TEST(TransportTest, ReflectionIsASwitch) {
  for (const bool reflection : {false, true}) {
    InProcess server(reflection);
    grpc::GenericStub stub(server.channel);
    grpc::ClientContext context;
    grpc::CompletionQueue queue;
    auto call =
        stub.PrepareCall(&context, "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", &queue);
    call->StartCall(&call);
    void* tag = nullptr;
    bool ok = false;
    ASSERT_TRUE(queue.Next(&tag, &ok));
    call->WritesDone(&call);
    ASSERT_TRUE(queue.Next(&tag, &ok));
    grpc::Status status;
    call->Finish(&status, &call);
    ASSERT_TRUE(queue.Next(&tag, &ok));
    EXPECT_EQ(status.error_code(), reflection ? grpc::OK : grpc::UNIMPLEMENTED);
  }
}

TEST(TransportTest, PortInUseIsAnError) {
  InProcess first;
  const auto second = DataServer::Start(first.core, {.listen = first.server->address()});
  EXPECT_EQ(second.status().code(), absl::StatusCode::kAlreadyExists) << second.status();
  EXPECT_THAT(std::string(second.status().message()), HasSubstr("in use"));
}

}  // namespace
}  // namespace yoio
