// How AdminService answers with more than one message.
#ifndef YOIO_SERVER_ADMIN_ANSWER_STREAM_H_
#define YOIO_SERVER_ADMIN_ANSWER_STREAM_H_

#include <grpcpp/alarm.h>
#include <grpcpp/server_context.h>
#include <grpcpp/support/server_callback.h>

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <thread>
#include <utility>
#include <variant>

#include "absl/status/status.h"
#include "base/bounded_queue.h"
#include "base/check.h"
#include "base/clock.h"
#include "server/cut_off.h"
#include "server/grpc_server.h"
#include "server/status.h"

namespace yoio {

inline grpc::Status ToGrpc(const absl::Status& status) {
  return status.ok() ? grpc::Status::OK : ToCallError(status, {}).status;
}

// The thread that copies, converts and renders for operators, so that gRPC's threads do not. Answers take
// turns on it, a message at a time. Thread-safe.
class AnswerThread {
 public:
  static constexpr int kMaxAnswers = 16;  // at the same time

  AnswerThread() : thread_([this] { Work(); }) {}
  // Every answer has ended.
  ~AnswerThread() {
    jobs_.Close();
    thread_.join();
  }

  // A place for an answer, until Leave. False when all are taken.
  bool Enter() {
    if (answers_.fetch_add(1) < kMaxAnswers) return true;
    Leave();
    return false;
  }
  void Leave() { answers_.fetch_sub(1); }

  // Never blocks: an answer has one job at a time.
  void Run(std::function<void()> job) { YOIO_CHECK(jobs_.TryPush(job)) << "an answer has more than one job"; }

 private:
  void Work() {
    while (auto job = jobs_.Pop()) (*job)();
  }

  std::atomic<int> answers_{0};
  BoundedQueue<std::function<void()>> jobs_{kMaxAnswers};
  std::thread thread_;
};

// Nothing is there yet: ask again when this has passed.
struct AskAgainAfter {
  Duration pause;
};

// What an answer goes on with: a message, a pause, or its end.
template <typename Response>
using AnswerPart = std::variant<Response, AskAgainAfter, absl::Status>;

// Where the messages of an answer come from. Next is called on the thread of answers and not again after the
// end.
template <typename Response>
class AnswerSource {
 public:
  virtual ~AnswerSource() = default;
  virtual AnswerPart<Response> Next() = 0;
};

// One answer: asks for a message, writes it, and only then asks for the next. Owned by itself.
template <typename Response>
class AnswerStream final : public grpc::ServerWriteReactor<Response> {
 public:
  // Has a place on `thread`. A client that takes nothing for `patience` loses its call.
  AnswerStream(AnswerThread& thread, grpc::CallbackServerContext& context, Duration patience,
               std::unique_ptr<AnswerSource<Response>> source)
      : thread_(thread), context_(context), patience_(patience), source_(std::move(source)) {
    Continue();
  }

  void OnWriteDone(bool ok) override {
    if (!ok) cancelled_ = true;
    Continue();
  }
  void OnCancel() override { cancelled_ = true; }
  void OnDone() override {
    thread_.Leave();
    delete this;
  }

 private:
  void Continue() {
    thread_.Run([this] { WriteNext(); });
  }

  // On the thread of answers. Nothing of this object may be touched after a write, a pause or the end has
  // begun.
  void WriteNext() {
    AnswerPart<Response> next = absl::CancelledError("the client has gone");
    if (!cancelled_) next = source_->Next();
    if (const auto* later = std::get_if<AskAgainAfter>(&next)) {
      alarm_.emplace().Set(After(later->pause), [this](bool) { Continue(); });
      return;
    }
    cut_off_.emplace().Start(context_, patience_);
    if (const auto* end = std::get_if<absl::Status>(&next)) return this->Finish(ToGrpc(*end));
    message_ = std::get<Response>(std::move(next));
    this->StartWrite(&message_);
  }

  AnswerThread& thread_;
  grpc::CallbackServerContext& context_;
  const Duration patience_;
  const std::unique_ptr<AnswerSource<Response>> source_;
  Response message_;
  std::atomic<bool> cancelled_{false};
  std::optional<grpc::Alarm> alarm_;
  std::optional<CutOff> cut_off_;
};

// An answer that ends before it has begun.
template <typename Response>
class EndedStream final : public grpc::ServerWriteReactor<Response> {
 public:
  explicit EndedStream(const absl::Status& status) { this->Finish(ToGrpc(status)); }
  void OnDone() override { delete this; }
};

}  // namespace yoio

#endif  // YOIO_SERVER_ADMIN_ANSWER_STREAM_H_
