#include "server/admin/admin_server.h"

#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>
#include <grpcpp/server_context.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "server/admin/answer_stream.h"
#include "server/admin/profile.h"
#include "server/admin/state.h"
#include "server/admin/traces.h"
#include "server/convert.h"
#include "server/grpc_server.h"
#include "server/status.h"
#include "server/token.h"
#include "server/unknown_fields.h"
#include "yoio/v1/admin.grpc.pb.h"

namespace yoio {
namespace {

using grpc::CallbackServerContext;
using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr Keepalive kKeepalive{.time = seconds(60), .timeout = seconds(20), .min_interval = seconds(10)};
constexpr Duration kShutdownGrace = milliseconds(100);

absl::StatusOr<LogLevel> LevelIn(const v1::SetLogLevelRequest& request) {
  switch (request.level()) {
    case v1::LOG_LEVEL_DEBUG:
      return LogLevel::kDebug;
    case v1::LOG_LEVEL_INFO:
      return LogLevel::kInfo;
    case v1::LOG_LEVEL_WARNING:
      return LogLevel::kWarning;
    case v1::LOG_LEVEL_ERROR:
      return LogLevel::kError;
    default:
      return absl::InvalidArgumentError("level: required");
  }
}

absl::StatusOr<Duration> TimeoutIn(const google::protobuf::Duration& timeout) {
  if (timeout.seconds() == 0 && timeout.nanos() == 0) return Duration::zero();
  return PositiveDuration(timeout, "timeout");
}

v1::LogLevel ToProto(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return v1::LOG_LEVEL_DEBUG;
    case LogLevel::kInfo:
      return v1::LOG_LEVEL_INFO;
    case LogLevel::kWarning:
      return v1::LOG_LEVEL_WARNING;
    case LogLevel::kError:
      return v1::LOG_LEVEL_ERROR;
  }
  return v1::LOG_LEVEL_UNSPECIFIED;
}

class AdminServiceImpl final : public v1::AdminService::CallbackService {
 public:
  AdminServiceImpl(AdminCore core, std::string token, AnswerThread& answers)
      : core_(std::move(core)), token_(std::move(token)), answers_(answers) {}

  grpc::ServerWriteReactor<v1::DumpStateResponse>* DumpState(CallbackServerContext* context,
                                                             const v1::DumpStateRequest* request) override {
    return Answer<v1::DumpStateResponse>(
        *context, *request, [&] { return AnswerState(core_.serving.engine, core_.draining(), *request); });
  }

  grpc::ServerWriteReactor<v1::GetTracesResponse>* GetTraces(CallbackServerContext* context,
                                                             const v1::GetTracesRequest* request) override {
    return Answer<v1::GetTracesResponse>(*context, *request, [&] {
      return AnswerTraces(core_.serving.engine, core_.serving.model, *request);
    });
  }

  grpc::ServerWriteReactor<v1::ProfileResponse>* Profile(CallbackServerContext* context,
                                                         const v1::ProfileRequest* request) override {
    return Answer<v1::ProfileResponse>(*context, *request,
                                       [&] { return AnswerProfile(core_.serving.engine, *request); });
  }

  grpc::ServerUnaryReactor* SetLogLevel(CallbackServerContext* context, const v1::SetLogLevelRequest* request,
                                        v1::SetLogLevelResponse* response) override {
    return FinishNow(*context, RunSetLogLevel(*context, *request, *response));
  }

  grpc::ServerUnaryReactor* Drain(CallbackServerContext* context, const v1::DrainRequest* request,
                                  v1::DrainResponse* response) override {
    return FinishNow(*context, RunDrain(*context, *request, *response));
  }

 private:
  absl::Status CheckToken(const CallbackServerContext& context) const {
    if (SameSecret(TokenOf(context), token_)) return absl::OkStatus();
    return absl::UnauthenticatedError("expected the metadata authorization: Bearer TOKEN, once");
  }

  // A stream of what `make_source` returns a source of, or that ends with its error.
  template <typename Response, typename Message, typename MakeSource>
  grpc::ServerWriteReactor<Response>* Answer(CallbackServerContext& context, const Message& request,
                                             const MakeSource& make_source) {
    absl::Status checked = CheckToken(context);
    if (checked.ok()) checked = CheckNothingUnknown(request);
    if (!checked.ok()) return new EndedStream<Response>(checked);
    absl::StatusOr<std::unique_ptr<AnswerSource<Response>>> source = make_source();
    if (!source.ok()) return new EndedStream<Response>(source.status());
    if (!answers_.Enter()) {
      return new EndedStream<Response>(absl::ResourceExhaustedError(
          absl::StrCat(AnswerThread::kMaxAnswers, " answers are under way: try again when one has ended")));
    }
    return new AnswerStream<Response>(answers_, context, core_.serving.stall_timeout, *std::move(source));
  }

  absl::Status RunSetLogLevel(const CallbackServerContext& context, const v1::SetLogLevelRequest& request,
                              v1::SetLogLevelResponse& response) {
    YOIO_RETURN_IF_ERROR(CheckToken(context));
    YOIO_RETURN_IF_ERROR(CheckNothingUnknown(request));
    YOIO_ASSIGN_OR_RETURN(const LogLevel level, LevelIn(request));
    response.set_previous(ToProto(core_.log.SetLevel(level)));
    return absl::OkStatus();
  }

  absl::Status RunDrain(const CallbackServerContext& context, const v1::DrainRequest& request,
                        v1::DrainResponse& response) {
    YOIO_RETURN_IF_ERROR(CheckToken(context));
    YOIO_RETURN_IF_ERROR(CheckNothingUnknown(request));
    std::optional<Duration> timeout;
    if (request.has_timeout()) {
      YOIO_ASSIGN_OR_RETURN(timeout, TimeoutIn(request.timeout()));
    }
    response.set_live_requests(static_cast<int32_t>(core_.serving.counters.live.load()));
    core_.drain(timeout);
    return absl::OkStatus();
  }

  static grpc::ServerUnaryReactor* FinishNow(CallbackServerContext& context, const absl::Status& status) {
    grpc::ServerUnaryReactor* reactor = context.DefaultReactor();
    reactor->Finish(ToGrpc(status));
    return reactor;
  }

  const AdminCore core_;
  const std::string token_;
  AnswerThread& answers_;
};

}  // namespace

AdminServer::AdminServer() = default;

absl::StatusOr<std::unique_ptr<AdminServer>> AdminServer::Start(const AdminCore& core,
                                                                const Options& options) {
  std::unique_ptr<AdminServer> admin(new AdminServer);
  admin->address_ = options.listen;
  admin->answers_ = std::make_unique<AnswerThread>();
  admin->service_ = std::make_unique<AdminServiceImpl>(core, options.token, *admin->answers_);
  grpc::ServerBuilder builder;
  builder.RegisterService(admin->service_.get());
  YOIO_ASSIGN_OR_RETURN(admin->server_,
                        StartGrpcServer(builder, options.tls, nullptr, kKeepalive, admin->address_));
  return admin;
}

AdminServer::~AdminServer() {
  if (server_ != nullptr) server_->Shutdown(After(kShutdownGrace));
}

}  // namespace yoio
