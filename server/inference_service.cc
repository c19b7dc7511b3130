#include "server/inference_service.h"

#include <grpcpp/server_context.h>

#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "engine/errors.h"
#include "server/generate_reactor.h"
#include "server/unknown_fields.h"
#include "server/version.h"
#include "yoio/v1/inference.grpc.pb.h"

namespace yoio {
namespace {

using grpc::CallbackServerContext;
using grpc::ServerUnaryReactor;

constexpr int kCacheBlockTokens = 64;

absl::Status Missing(const char* field) {
  return WithReason(absl::StatusCode::kInvalidArgument, "BAD_VALUE", absl::StrCat(field, ": required"));
}

absl::Status CheckAnswerSize(size_t bytes, const char* advice) {
  if (bytes <= kMaxResponseBytes) return absl::OkStatus();
  return WithReason(
      absl::StatusCode::kInvalidArgument, "ANSWER_TOO_LARGE",
      absl::StrCat("the answer has ", bytes, " bytes, more than ", kMaxResponseBytes, "; ", advice));
}

absl::Status RunTokenize(const Engine& engine, const v1::TokenizeRequest& request,
                         v1::TokenizeResponse& response) {
  YOIO_ASSIGN_OR_RETURN(const std::vector<int32_t> ids, engine.Tokenize(request.text()));
  response.set_count(static_cast<int32_t>(ids.size()));
  if (request.count_only()) return absl::OkStatus();
  response.mutable_ids()->Assign(ids.begin(), ids.end());
  return CheckAnswerSize(response.ByteSizeLong(), "send the text in parts, or set count_only");
}

absl::Status RunDetokenize(const Engine& engine, const v1::DetokenizeRequest& request,
                           v1::DetokenizeResponse& response) {
  const auto& message_ids = request.token_ids().ids();
  const std::vector<int32_t> ids(message_ids.begin(), message_ids.end());
  const bool skip_special = !request.has_skip_special_tokens() || request.skip_special_tokens();
  YOIO_ASSIGN_OR_RETURN(*response.mutable_text(), engine.Detokenize(ids, skip_special));
  return CheckAnswerSize(response.ByteSizeLong(), "send the ids in parts");
}

class InferenceServiceImpl final : public v1::InferenceService::CallbackService {
 public:
  explicit InferenceServiceImpl(ServingCore& core) : core_(core) {}

  grpc::ServerWriteReactor<v1::GenerateResponse>* Generate(CallbackServerContext* context,
                                                           const v1::GenerateRequest* request) override {
    return StartGenerate(core_, *context, *request);
  }

  ServerUnaryReactor* GenerateOnce(CallbackServerContext* context, const v1::GenerateOnceRequest* request,
                                   v1::GenerateOnceResponse* response) override {
    return StartGenerateOnce(core_, *context, *request, *response);
  }

  grpc::ServerWriteReactor<v1::ScoreResponse>* Score(CallbackServerContext* context,
                                                     const v1::ScoreRequest* request) override {
    return StartScore(core_, *context, *request);
  }

  ServerUnaryReactor* Tokenize(CallbackServerContext* context, const v1::TokenizeRequest* request,
                               v1::TokenizeResponse* response) override {
    SimpleCall call(core_, *context, "Tokenize");
    absl::Status valid = CheckTextCall(call, *request);
    if (valid.ok() && !request->has_text()) valid = Missing("text");
    return RunOnTextPool(std::move(call), std::move(valid), [this, request, response] {
      return RunTokenize(core_.engine, *request, *response);
    });
  }

  ServerUnaryReactor* Detokenize(CallbackServerContext* context, const v1::DetokenizeRequest* request,
                                 v1::DetokenizeResponse* response) override {
    SimpleCall call(core_, *context, "Detokenize");
    absl::Status valid = CheckTextCall(call, *request);
    if (valid.ok() && !request->has_token_ids()) valid = Missing("token_ids");
    return RunOnTextPool(std::move(call), std::move(valid), [this, request, response] {
      return RunDetokenize(core_.engine, *request, *response);
    });
  }

  ServerUnaryReactor* GetModelInfo(CallbackServerContext* context, const v1::GetModelInfoRequest* request,
                                   v1::GetModelInfoResponse* response) override {
    SimpleCall call(core_, *context, "GetModelInfo");
    absl::Status status = CheckCall(call, *request);
    if (status.ok()) status = CheckModelName(request->model(), core_.model);
    if (status.ok()) ToProto(core_.model, *response);
    return FinishNow(call, status);
  }

  ServerUnaryReactor* GetServerInfo(CallbackServerContext* context, const v1::GetServerInfoRequest* request,
                                    v1::GetServerInfoResponse* response) override {
    SimpleCall call(core_, *context, "GetServerInfo");
    const absl::Status status = CheckCall(call, *request);
    if (status.ok()) FillServerInfo(*response);
    return FinishNow(call, status);
  }

  ServerUnaryReactor* GetLoad(CallbackServerContext* context, const v1::GetLoadRequest* request,
                              v1::GetLoadResponse* response) override {
    SimpleCall call(core_, *context, "GetLoad");
    const absl::Status status = CheckCall(call, *request);
    if (status.ok()) ToProto(core_.engine.load(), *response);
    return FinishNow(call, status);
  }

  ServerUnaryReactor* Abort(CallbackServerContext* context, const v1::AbortRequest* request,
                            v1::AbortResponse*) override {
    SimpleCall call(core_, *context, "Abort");
    return FinishNow(call, RunAbort(call, *request));
  }

 private:
  // What every call is asked that submits nothing to the engine.
  template <typename Message>
  absl::Status CheckCall(SimpleCall& call, const Message& request) const {
    YOIO_RETURN_IF_ERROR(call.Identify().status());
    return CheckNothingUnknown(request);
  }

  template <typename Message>
  absl::Status CheckTextCall(SimpleCall& call, const Message& request) const {
    YOIO_RETURN_IF_ERROR(CheckCall(call, request));
    YOIO_RETURN_IF_ERROR(CheckModelName(request.model(), core_.model));
    if (core_.model.info->has_tokenizer) return absl::OkStatus();
    return WithReason(absl::StatusCode::kUnimplemented, "UNSUPPORTED_FIELD",
                      "text: this model has no tokenizer");
  }

  absl::Status RunAbort(SimpleCall& call, const v1::AbortRequest& request) {
    YOIO_ASSIGN_OR_RETURN(const Caller caller, call.Identify());
    YOIO_RETURN_IF_ERROR(CheckNothingUnknown(request));
    if (!request.has_request_id()) return Missing("request_id");
    YOIO_RETURN_IF_ERROR(CheckRequestId(request.request_id(), core_.engine.limits().max_request_id_bytes));
    return core_.engine.Cancel(
        caller.tenant, request.request_id(),
        WithReason(absl::StatusCode::kCancelled, "ABORTED_BY_CALL", "Abort named the request"));
  }

  void FillServerInfo(v1::GetServerInfoResponse& response) const {
    const MemoryPlan& memory = core_.engine.memory();
    response.set_version(kVersion);
    response.set_schema_revision(kSchemaRevision);
    response.set_device(memory.device);
    response.set_tensor_parallel_size(memory.ranks);
    response.set_threads(memory.threads);
    response.set_kv_cache_bytes(memory.cache_bytes);
    response.set_cache_blocks(memory.global_blocks);
    response.set_cache_block_tokens(kCacheBlockTokens);
    ToProto(core_.engine.limits(), *core_.model.info, core_.stall_timeout, *response.mutable_limits());
  }

  ServerUnaryReactor* FinishNow(SimpleCall& call, const absl::Status& status) {
    ServerUnaryReactor* reactor = call.context().DefaultReactor();
    reactor->Finish(call.Close(status));
    return reactor;
  }

  // Finishes with `valid` if that is an error, else with what `work` returns. Request, response and context
  // live until then.
  template <typename Work>
  ServerUnaryReactor* RunOnTextPool(SimpleCall call, absl::Status valid, Work work) {
    ServerUnaryReactor* reactor = call.context().DefaultReactor();
    if (valid.ok()) {
      valid = core_.engine.RunText(
          [reactor, call, work = std::move(work)]() mutable { reactor->Finish(call.Close(work())); });
      if (valid.ok()) return reactor;
    }
    reactor->Finish(call.Close(valid));
    return reactor;
  }

  ServingCore& core_;
};

}  // namespace

std::unique_ptr<grpc::Service> MakeInferenceService(ServingCore& core) {
  return std::make_unique<InferenceServiceImpl>(core);
}

}  // namespace yoio
