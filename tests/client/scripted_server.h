// A gRPC server in this process whose answers the test writes.
#ifndef YOIO_TESTS_CLIENT_SCRIPTED_SERVER_H_
#define YOIO_TESTS_CLIENT_SCRIPTED_SERVER_H_

#include <grpcpp/grpcpp.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "yoio/v1/admin.grpc.pb.h"
#include "yoio/v1/inference.grpc.pb.h"

namespace yoio {

// Serves all services on one port of the loopback interface until it is destroyed. Handlers run on gRPC's
// threads; set them before the first call.
class ScriptedServer : public v1::InferenceService::Service {
 public:
  template <typename Request, typename Response>
  using Unary = std::function<grpc::Status(const Request&, Response*)>;

  std::function<grpc::Status(grpc::ServerContext*, const v1::GenerateRequest&,
                             grpc::ServerWriter<v1::GenerateResponse>*)>
      generate;
  std::function<grpc::Status(const v1::ScoreRequest&, grpc::ServerWriter<v1::ScoreResponse>*)> score;
  Unary<v1::GenerateOnceRequest, v1::GenerateOnceResponse> generate_once;
  Unary<v1::TokenizeRequest, v1::TokenizeResponse> tokenize;
  Unary<v1::DetokenizeRequest, v1::DetokenizeResponse> detokenize;
  Unary<v1::GetModelInfoRequest, v1::GetModelInfoResponse> get_model_info;
  Unary<v1::GetServerInfoRequest, v1::GetServerInfoResponse> get_server_info;
  Unary<v1::GetLoadRequest, v1::GetLoadResponse> get_load;
  Unary<v1::AbortRequest, v1::AbortResponse> abort;
  std::map<std::string, ::grpc::health::v1::HealthCheckResponse::ServingStatus> health;

  // Of AdminService; calls without `admin_token` are refused, as a server does.
  template <typename Request, typename Response>
  using Streamed = std::function<grpc::Status(const Request&, grpc::ServerWriter<Response>*)>;
  std::string admin_token;
  Streamed<v1::DumpStateRequest, v1::DumpStateResponse> dump_state;
  Streamed<v1::GetTracesRequest, v1::GetTracesResponse> get_traces;
  Streamed<v1::ProfileRequest, v1::ProfileResponse> profile;

  explicit ScriptedServer(
      std::shared_ptr<grpc::ServerCredentials> credentials = grpc::InsecureServerCredentials(),
      std::chrono::milliseconds connection_age = std::chrono::hours(1))
      : health_service_(*this), admin_service_(*this) {
    grpc::ServerBuilder builder;
    builder.AddChannelArgument(GRPC_ARG_MAX_CONNECTION_AGE_MS, static_cast<int>(connection_age.count()));
    builder.AddListeningPort("127.0.0.1:0", std::move(credentials), &port_);
    builder.RegisterService(this);
    builder.RegisterService(&health_service_);
    builder.RegisterService(&admin_service_);
    server_ = builder.BuildAndStart();
  }
  ~ScriptedServer() override { server_->Shutdown(std::chrono::system_clock::now()); }

  std::string address() const { return absl::StrCat("127.0.0.1:", port_); }

  // From now on Generate is refused as by a server that drains.
  void Drain() { draining_ = true; }

  grpc::Status Generate(grpc::ServerContext* context, const v1::GenerateRequest* request,
                        grpc::ServerWriter<v1::GenerateResponse>* writer) override {
    if (draining_) return Draining();
    return generate ? generate(context, *request, writer) : Unscripted();
  }
  grpc::Status Score(grpc::ServerContext*, const v1::ScoreRequest* request,
                     grpc::ServerWriter<v1::ScoreResponse>* writer) override {
    return score ? score(*request, writer) : Unscripted();
  }
  grpc::Status GenerateOnce(grpc::ServerContext*, const v1::GenerateOnceRequest* request,
                            v1::GenerateOnceResponse* response) override {
    return Answer(generate_once, request, response);
  }
  grpc::Status Tokenize(grpc::ServerContext*, const v1::TokenizeRequest* request,
                        v1::TokenizeResponse* response) override {
    return Answer(tokenize, request, response);
  }
  grpc::Status Detokenize(grpc::ServerContext*, const v1::DetokenizeRequest* request,
                          v1::DetokenizeResponse* response) override {
    return Answer(detokenize, request, response);
  }
  grpc::Status GetModelInfo(grpc::ServerContext*, const v1::GetModelInfoRequest* request,
                            v1::GetModelInfoResponse* response) override {
    return Answer(get_model_info, request, response);
  }
  grpc::Status GetServerInfo(grpc::ServerContext*, const v1::GetServerInfoRequest* request,
                             v1::GetServerInfoResponse* response) override {
    return Answer(get_server_info, request, response);
  }
  grpc::Status GetLoad(grpc::ServerContext*, const v1::GetLoadRequest* request,
                       v1::GetLoadResponse* response) override {
    return Answer(get_load, request, response);
  }
  grpc::Status Abort(grpc::ServerContext*, const v1::AbortRequest* request,
                     v1::AbortResponse* response) override {
    return Answer(abort, request, response);
  }

 private:
  class HealthService : public ::grpc::health::v1::Health::Service {
   public:
    explicit HealthService(ScriptedServer& owner) : owner_(owner) {}
    grpc::Status Check(grpc::ServerContext*, const ::grpc::health::v1::HealthCheckRequest* request,
                       ::grpc::health::v1::HealthCheckResponse* response) override {
      const auto entry = owner_.health.find(request->service());
      if (entry == owner_.health.end()) return {grpc::StatusCode::NOT_FOUND, "unknown service"};
      response->set_status(entry->second);
      return grpc::Status::OK;
    }

   private:
    ScriptedServer& owner_;
  };

  class AdminService : public v1::AdminService::Service {
   public:
    explicit AdminService(ScriptedServer& owner) : owner_(owner) {}
    grpc::Status DumpState(grpc::ServerContext* context, const v1::DumpStateRequest* request,
                           grpc::ServerWriter<v1::DumpStateResponse>* writer) override {
      return Answer(*context, owner_.dump_state, *request, writer);
    }
    grpc::Status GetTraces(grpc::ServerContext* context, const v1::GetTracesRequest* request,
                           grpc::ServerWriter<v1::GetTracesResponse>* writer) override {
      return Answer(*context, owner_.get_traces, *request, writer);
    }
    grpc::Status Profile(grpc::ServerContext* context, const v1::ProfileRequest* request,
                         grpc::ServerWriter<v1::ProfileResponse>* writer) override {
      return Answer(*context, owner_.profile, *request, writer);
    }

   private:
    template <typename Request, typename Response>
    grpc::Status Answer(const grpc::ServerContext& context, const Streamed<Request, Response>& handler,
                        const Request& request, grpc::ServerWriter<Response>* writer) {
      const auto sent = context.client_metadata().find("authorization");
      if (sent == context.client_metadata().end() || sent->second != "Bearer " + owner_.admin_token) {
        return WrongToken();
      }
      return handler ? handler(request, writer) : Unscripted();
    }

    ScriptedServer& owner_;
  };

  static grpc::Status WrongToken();
  static grpc::Status Draining();
  static grpc::Status Unscripted() { return {grpc::StatusCode::INTERNAL, "the test expected no such call"}; }

  template <typename Request, typename Response>
  static grpc::Status Answer(const Unary<Request, Response>& handler, const Request* request,
                             Response* response) {
    return handler ? handler(*request, response) : Unscripted();
  }

  HealthService health_service_;
  AdminService admin_service_;
  int port_ = 0;
  std::atomic<bool> draining_ = false;
  std::unique_ptr<grpc::Server> server_;
};

// A failure as a yoio server sends it: ErrorInfo, and RetryInfo when `retry_seconds` is not 0.
inline grpc::Status RichStatus(grpc::StatusCode code, const std::string& message, const std::string& reason,
                               const std::map<std::string, std::string>& metadata, int retry_seconds = 0) {
  google::rpc::ErrorInfo info;
  info.set_domain("yoio.v1");
  info.set_reason(reason);
  info.mutable_metadata()->insert(metadata.begin(), metadata.end());
  google::rpc::Status rich;
  rich.set_code(code);
  rich.set_message(message);
  rich.add_details()->PackFrom(info);
  if (retry_seconds != 0) {
    google::rpc::RetryInfo retry;
    retry.mutable_retry_delay()->set_seconds(retry_seconds);
    rich.add_details()->PackFrom(retry);
  }
  return {code, message, rich.SerializeAsString()};
}

inline grpc::Status ScriptedServer::WrongToken() {
  return RichStatus(grpc::StatusCode::UNAUTHENTICATED, "the token is wrong", "BAD_CREDENTIAL", {});
}

inline grpc::Status ScriptedServer::Draining() {
  return RichStatus(grpc::StatusCode::UNAVAILABLE, "the server is draining", "DRAINING",
                    {{"accepted", "false"}});
}

// The events of a short, successful stream that says `pieces`.
inline void WriteStream(grpc::ServerWriter<v1::GenerateResponse>* writer,
                        const std::vector<std::string>& pieces) {
  v1::GenerateResponse event;
  event.mutable_accepted()->set_request_id("r-1");
  event.mutable_accepted()->set_prompt_tokens(1234);
  writer->Write(event);
  for (const std::string& piece : pieces) {
    event.mutable_delta()->set_text(piece);
    writer->Write(event);
  }
  event.mutable_finished()->set_reason(v1::FINISH_REASON_EOS);
  writer->Write(event);
  v1::Summary* summary = event.mutable_summary();
  summary->mutable_usage()->set_prompt_tokens(1234);
  summary->mutable_usage()->set_completion_tokens(static_cast<int32_t>(pieces.size()));
  summary->mutable_timing()->mutable_queue()->set_nanos(250'000);
  summary->mutable_timing()->mutable_prefill()->set_nanos(500'000'000);
  summary->mutable_timing()->mutable_time_to_first_token()->set_nanos(501'000'000);
  summary->mutable_timing()->mutable_time_per_output_token()->set_nanos(12'500'000);
  writer->Write(event);
}

}  // namespace yoio

#endif  // YOIO_TESTS_CLIENT_SCRIPTED_SERVER_H_
