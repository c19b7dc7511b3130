// What every call of InferenceService shares: its caller, its request's id, deadline, error details, log line
// and counters.
#ifndef YOIO_SERVER_CALL_H_
#define YOIO_SERVER_CALL_H_

#include <grpcpp/support/status.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "engine/engine.h"
#include "engine/event.h"
#include "engine/outbox.h"
#include "server/call_record.h"
#include "server/caller.h"
#include "server/convert.h"
#include "server/delivery_thread.h"
#include "server/log.h"
#include "server/place.h"
#include "server/trace/trace_context.h"

namespace grpc {
class CallbackServerContext;
}

namespace yoio {

class Tracer;

// Calls that submit a request to the engine. Thread-safe.
struct CallCounters {
  std::atomic<int64_t> live{0};  // until gRPC is done with them
  std::atomic<int64_t> ok{0};
  std::atomic<int64_t> failed{0};                         // cancelled ones included
  std::array<std::atomic<int64_t>, 17> failed_by_code{};  // the same by grpc::StatusCode
};

// The ids of the calls that have not ended, as their callers see it: an id is free again when its stream is
// closed, which a slow reader can put off long after the engine is done. Each tenant has its own.
// Thread-safe.
class LiveIds {
 public:
  // False when `id` is there already.
  bool Add(const std::string& tenant, const std::string& id);
  void Remove(const std::string& tenant, const std::string& id);

 private:
  using TenantAndId = std::pair<std::string, std::string>;
  Mutex mutex_;
  absl::flat_hash_set<TenantAndId> ids_ ABSL_GUARDED_BY(mutex_);
};

// What calls need. Owned by Server; outlives every call.
struct ServingCore {
  Engine& engine;
  ServedModel model;
  Duration stall_timeout;
  const Logger& log;
  const Authenticator* authenticator = nullptr;  // null: everybody is Caller{}
  Place place{};
  Tracer* tracer = nullptr;                // null: nothing is traced
  std::vector<CallObserver*> observers{};  // told of every call, in this order; outlive every call
  LiveIds live_ids{};
  CallCounters counters{};
  DeliveryThread delivery{};
};

// Who calls. Errors as Authenticator::Authenticate.
absl::StatusOr<Caller> IdentifyCaller(const ServingCore& core, const grpc::CallbackServerContext& context);

// One call that submits a request to the engine. Owned by its reactor. Not thread-safe, Cancel excepted: gRPC
// and the outbox see to it that one thread at a time works on a stream.
class Call {
 public:
  // `method` is a literal: "Generate".
  Call(ServingCore& core, grpc::CallbackServerContext& context, std::string_view method)
      : core_(core), context_(context), method_(method), arrival_(Clock::now()) {
    ++core_.counters.live;
  }
  ~Call() { --core_.counters.live; }
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;

  // Finds out who calls, checks and converts `message`, then submits it. On error nothing was accepted and
  // `transport` is never told anything.
  absl::Status Start(const v1::GenerateRequest& message, std::shared_ptr<Transport> transport);
  absl::Status Start(const v1::GenerateOnceRequest& message, std::shared_ptr<Transport> transport);
  absl::Status Start(const v1::ScoreRequest& message, std::shared_ptr<Transport> transport);

  // What has come from the engine since the last time, as Outbox::Take.
  bool Take(Outbox::Taken& taken);

  // `event` is about to be sent.
  void NoteSent(const Event& event);

  // Ends the request in the engine. Thread-safe; no effect when it has ended or was never submitted.
  void Cancel(absl::Status reason);
  // As above, because the client went away or its deadline passed.
  void CancelByClient();

  // How the call ends: adds trailers, writes the log line, counts, and tells the observers. Called once,
  // last.
  grpc::Status Close(const absl::Status& status);

  const EventView& view() const { return view_; }

 private:
  template <typename Message>
  absl::Status StartAny(const Message& message, std::shared_ptr<Transport> transport);
  // The rest of Start, for a caller that is known.
  template <typename Message>
  absl::Status Submit(const Message& message, Caller caller, std::shared_ptr<Transport> transport);
  // Keeps what the record of the call needs of `event`, and fills in what the engine does not know.
  void Note(Event& event);
  void AddTimingTrailer(TimePoint now);
  // The last use of the call's own values, which move into it.
  CallRecord MakeRecord(const grpc::Status& status, std::string reason, TimePoint now);
  void Report(const CallRecord& record) const;

  ServingCore& core_;
  grpc::CallbackServerContext& context_;
  const std::string_view method_;
  const TimePoint arrival_;
  std::string tenant_;
  CallTrace trace_;
  std::string id_;  // empty until a valid one is known
  TimePoint deadline_ = TimePoint::max();
  EventView view_{};
  std::shared_ptr<Outbox> outbox_;

  bool accepted_ = false;
  int64_t tokens_sent_ = 0;
  TimePoint first_sent_{};
  std::optional<AcceptedEvent> request_;
  std::optional<FinishReason> finish_reason_;
  std::optional<SummaryEvent> summary_;
  std::atomic<bool> owns_id_{false};  // tenant_ and id_ are in core_.live_ids because of this call
};

// One call that submits nothing to the engine. Not thread-safe.
class SimpleCall {
 public:
  // `method` is a literal. `core` and `context` outlive it.
  SimpleCall(ServingCore& core, grpc::CallbackServerContext& context, std::string_view method)
      : core_(&core), context_(&context), method_(method), arrival_(Clock::now()) {}

  // Finds out who calls. Errors as Authenticator::Authenticate.
  absl::StatusOr<Caller> Identify();

  // How the call ends: adds trailers, and exports its span if it is sampled. Called once, last.
  grpc::Status Close(const absl::Status& status);

  grpc::CallbackServerContext& context() const { return *context_; }

 private:
  ServingCore* core_;
  grpc::CallbackServerContext* context_;
  std::string_view method_;
  TimePoint arrival_;
  std::string tenant_;
  CallTrace trace_;
};

}  // namespace yoio

#endif  // YOIO_SERVER_CALL_H_
