#include "bench/bare_service.h"

#include <utility>

#include "yoio/v1/inference.grpc.pb.h"

namespace yoio::bench {
namespace {

class BareReactor final : public grpc::ServerWriteReactor<v1::GenerateResponse> {
 public:
  BareReactor(const v1::GenerateResponse& message, int32_t count) : message_(message), left_(count) {
    Write();
  }
  void OnWriteDone(bool ok) override {
    if (!ok) left_ = 0;
    Write();
  }
  void OnDone() override { delete this; }

 private:
  void Write() {
    if (left_ == 0) return Finish(grpc::Status::OK);
    --left_;
    StartWrite(&message_);
  }
  const v1::GenerateResponse& message_;
  int32_t left_;
};

class BareService final : public v1::InferenceService::CallbackService {
 public:
  explicit BareService(v1::GenerateResponse message) : message_(std::move(message)) {}
  grpc::ServerWriteReactor<v1::GenerateResponse>* Generate(grpc::CallbackServerContext*,
                                                           const v1::GenerateRequest* request) override {
    return new BareReactor(message_, request->stop().max_tokens());
  }

 private:
  const v1::GenerateResponse message_;
};

}  // namespace

std::unique_ptr<grpc::Service> MakeBareService(v1::GenerateResponse message) {
  return std::make_unique<BareService>(std::move(message));
}

}  // namespace yoio::bench
