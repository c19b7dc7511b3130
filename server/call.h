// What every call of InferenceService shares: its request's id, deadline, error details, log line and
// counters.
#ifndef YOIO_SERVER_CALL_H_
#define YOIO_SERVER_CALL_H_

#include <grpcpp/support/status.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "engine/engine.h"
#include "engine/event.h"
#include "engine/outbox.h"
#include "server/convert.h"
#include "server/log.h"

namespace grpc {
class CallbackServerContext;
}

namespace yoio {

// Whose every request is.
inline constexpr char kTenant[] = "default";

// Calls that have ended. Thread-safe.
struct CallCounters {
  std::atomic<int64_t> ok{0};
  std::atomic<int64_t> failed{0};
};

// The ids of the calls that have not ended, as their callers see it: an id is free again when its stream is
// closed, which a slow reader can put off long after the engine is done. Thread-safe.
class LiveIds {
 public:
  // False when `id` is there already.
  bool Add(const std::string& id);
  void Remove(const std::string& id);

 private:
  Mutex mutex_;
  absl::flat_hash_set<std::string> ids_ ABSL_GUARDED_BY(mutex_);
};

// What calls need. Owned by Server; outlives every call.
struct ServingCore {
  Engine& engine;
  ServedModel model;
  Duration stall_timeout;
  const Logger& log;
  LiveIds live_ids{};
  CallCounters counters{};
};

// One call that submits a request to the engine. Owned by its reactor. Not thread-safe, Cancel excepted: gRPC
// and the outbox see to it that one thread at a time works on a stream.
class Call {
 public:
  // `method` is a literal: "Generate".
  Call(ServingCore& core, grpc::CallbackServerContext& context, std::string_view method)
      : core_(core), context_(context), method_(method), arrival_(Clock::now()) {}

  // Checks and converts `message`, then submits it. On error nothing was accepted and `transport` is never
  // told anything.
  absl::Status Start(const v1::GenerateRequest& message, std::shared_ptr<Transport> transport);
  absl::Status Start(const v1::ScoreRequest& message, std::shared_ptr<Transport> transport);

  // What has come from the engine since the last time, as Outbox::Take.
  bool Take(Outbox::Taken& taken);

  // `event` is about to be sent.
  void NoteSent(const Event& event);

  // Ends the request in the engine. Thread-safe; no effect when it has ended or was never submitted.
  void Cancel(absl::Status reason);
  // As above, because the client went away or its deadline passed.
  void CancelByClient();

  // How the call ends: adds trailers, writes the log line and counts. Called once, last.
  grpc::Status Close(const absl::Status& status);

  const EventView& view() const { return view_; }

 private:
  template <typename Message>
  absl::Status StartAny(const Message& message, std::shared_ptr<Transport> transport);
  void AddTimingTrailer();
  void WriteLogLine(const grpc::Status& status, std::string_view reason) const;

  ServingCore& core_;
  grpc::CallbackServerContext& context_;
  const std::string_view method_;
  const TimePoint arrival_;
  std::string id_;  // empty until a valid one is known
  TimePoint deadline_ = TimePoint::max();
  EventView view_{};
  std::shared_ptr<Outbox> outbox_;

  bool accepted_ = false;
  int64_t tokens_sent_ = 0;
  std::optional<SummaryEvent> summary_;
  std::atomic<bool> owns_id_{false};  // id_ is in core_.live_ids because of this call
};

// How a call ends that submits nothing to the engine.
grpc::Status CloseSimpleCall(ServingCore& core, grpc::CallbackServerContext& context,
                             const absl::Status& status);

}  // namespace yoio

#endif  // YOIO_SERVER_CALL_H_
