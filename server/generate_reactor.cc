#include "server/generate_reactor.h"

#include <grpcpp/server_context.h>

#include <memory>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/errors.h"
#include "server/cut_off.h"
#include "server/delivery_thread.h"
#include "yoio/v1/inference.pb.h"

namespace yoio {
namespace {

// What the outbox holds of a reactor. A reactor lives until its Finish, and finishes only after it took the
// end, which is the outbox's last word; this object alone may be let go of by the outbox while it delivers.
template <typename Reactor>
class ReadySignal final : public Transport,
                          public DeliveryThread::Delivery,
                          public std::enable_shared_from_this<ReadySignal<Reactor>> {
 public:
  ReadySignal(Reactor& reactor, DeliveryThread& thread) : reactor_(reactor), thread_(thread) {}
  void Ready() override { thread_.Schedule(this->shared_from_this()); }
  void Deliver() override { reactor_.Pump(); }
  void EndWaits() override { reactor_.StartCutOff(); }

 private:
  Reactor& reactor_;
  DeliveryThread& thread_;
};

// One server stream: takes events from the outbox and writes them, one write in flight. Pump runs on one
// thread at a time, because Ready comes only after a Take that found nothing, and OnWriteDone only after a
// StartWrite. Owned by itself.
template <typename Response>
class StreamReactor final : public grpc::ServerWriteReactor<Response> {
 public:
  StreamReactor(ServingCore& core, grpc::CallbackServerContext& context, std::string_view method)
      : core_(core), context_(context), call_(core, context, method) {}

  template <typename Message>
  void Start(const Message& message) {
    const absl::Status status =
        call_.Start(message, std::make_shared<ReadySignal<StreamReactor>>(*this, core_.delivery));
    // Nothing was written: the failure goes out trailers-only, and gRPC's retry policies apply.
    if (!status.ok()) this->Finish(call_.Close(status));
  }

  // Starts the next write, or takes what is waiting, or finishes. Nothing of this object may be touched after
  // a Take that found nothing: the next Pump may already run on another thread.
  void Pump() {
    while (true) {
      if (next_ < messages_.size() && !broken_) return this->StartWrite(&messages_[next_++]);
      if (taken_.end) return this->Finish(call_.Close(*taken_.end));
      messages_.clear();
      next_ = 0;
      if (!call_.Take(taken_)) return;
      for (Event& event : taken_.events) {
        if (!broken_) call_.NoteSent(event);
        AppendResponses(std::move(event), call_.view(), messages_);
      }
      if (taken_.end) StartCutOff();
    }
  }

  // The end is known: the client has --stall-timeout to take what is left.
  void StartCutOff() {
    if (!cut_off_.started()) cut_off_.Start(context_, core_.stall_timeout);
  }

  void OnWriteDone(bool ok) override {
    // A failed write means that the client is gone: OnCancel ends the request, and what is left is thrown
    // away.
    if (!ok) broken_ = true;
    Pump();
  }
  void OnCancel() override { call_.CancelByClient(); }
  void OnDone() override { delete this; }

 private:
  ServingCore& core_;
  grpc::CallbackServerContext& context_;
  Call call_;
  CutOff cut_off_;
  Outbox::Taken taken_;
  std::vector<Response> messages_;  // of taken_; those before next_ have been written
  size_t next_ = 0;
  bool broken_ = false;
};

// At least as many bytes as `event` adds to an answer.
size_t UpperBoundOfBytes(const Event& event) {
  constexpr size_t kPerEvent = 64;  // what frames a delta; other events are few and small
  constexpr size_t kPerToken = 24;  // id, record: tags, lengths and values
  constexpr size_t kPerTop = 16;
  size_t bytes = kPerEvent;
  const auto add_tokens = [&bytes](const std::vector<TokenRecord>& tokens) {
    for (const TokenRecord& token : tokens) bytes += kPerToken + kPerTop * token.top.size();
  };
  if (const auto* delta = std::get_if<DeltaEvent>(&event)) {
    bytes += delta->text.size();
    add_tokens(delta->tokens);
  } else if (const auto* scores = std::get_if<PromptScoresEvent>(&event)) {
    add_tokens(scores->tokens);
  }
  return bytes;
}

// One unary call: collects the events of a stream into one answer.
class GenerateOnceReactor final : public grpc::ServerUnaryReactor {
 public:
  GenerateOnceReactor(ServingCore& core, grpc::CallbackServerContext& context,
                      v1::GenerateOnceResponse& answer)
      : core_(core), context_(context), call_(core, context, "GenerateOnce"), answer_(answer) {}

  void Start(const v1::GenerateOnceRequest& message) {
    const absl::Status status =
        call_.Start(message, std::make_shared<ReadySignal<GenerateOnceReactor>>(*this, core_.delivery));
    if (!status.ok()) Finish(call_.Close(status));
  }

  // As StreamReactor::Pump; there is nothing to wait for but the end.
  void Pump() {
    while (true) {
      if (!call_.Take(taken_)) return;
      for (Event& event : taken_.events) {
        if (std::holds_alternative<AcceptedEvent>(event)) call_.NoteSent(event);  // all else goes at the end
        bytes_ += UpperBoundOfBytes(event);
        if (!too_large_) MergeIntoAnswer(std::move(event), call_.view(), answer_);
      }
      CheckSize();
      if (!taken_.end) continue;
      StartCutOff();
      return Finish(call_.Close(too_large_ ? *too_large_ : *taken_.end));
    }
  }

  // As StreamReactor::StartCutOff.
  void StartCutOff() {
    if (!cut_off_.started()) cut_off_.Start(context_, core_.stall_timeout);
  }

  void OnCancel() override { call_.CancelByClient(); }
  void OnDone() override { delete this; }

 private:
  // An answer that has grown too large ends its request at once, not after the rest was generated for
  // nothing.
  void CheckSize() {
    if (too_large_ || bytes_ <= kMaxResponseBytes || answer_.ByteSizeLong() <= kMaxResponseBytes) return;
    too_large_ = WithReason(absl::StatusCode::kInvalidArgument, "ANSWER_TOO_LARGE",
                            absl::StrCat("the answer is larger than ", kMaxResponseBytes,
                                         " bytes; use Generate, which streams it"));
    answer_.Clear();
    call_.Cancel(*too_large_);
  }

  ServingCore& core_;
  grpc::CallbackServerContext& context_;
  Call call_;
  CutOff cut_off_;
  Outbox::Taken taken_;
  v1::GenerateOnceResponse& answer_;
  size_t bytes_ = 0;  // an upper bound: the exact size costs a walk over the whole answer
  std::optional<absl::Status> too_large_;
};

}  // namespace

grpc::ServerWriteReactor<v1::GenerateResponse>* StartGenerate(ServingCore& core,
                                                              grpc::CallbackServerContext& context,
                                                              const v1::GenerateRequest& request) {
  auto* reactor = new StreamReactor<v1::GenerateResponse>(core, context, "Generate");
  reactor->Start(request);
  return reactor;
}

grpc::ServerWriteReactor<v1::ScoreResponse>* StartScore(ServingCore& core,
                                                        grpc::CallbackServerContext& context,
                                                        const v1::ScoreRequest& request) {
  auto* reactor = new StreamReactor<v1::ScoreResponse>(core, context, "Score");
  reactor->Start(request);
  return reactor;
}

grpc::ServerUnaryReactor* StartGenerateOnce(ServingCore& core, grpc::CallbackServerContext& context,
                                            const v1::GenerateOnceRequest& request,
                                            v1::GenerateOnceResponse& response) {
  auto* reactor = new GenerateOnceReactor(core, context, response);
  reactor->Start(request);
  return reactor;
}

}  // namespace yoio
