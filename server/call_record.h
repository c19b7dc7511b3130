// A call of InferenceService that has ended, as traces, metrics and the log see it.
#ifndef YOIO_SERVER_CALL_RECORD_H_
#define YOIO_SERVER_CALL_RECORD_H_

#include <grpcpp/support/status.h>

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/clock.h"
#include "engine/event.h"
#include "engine/trace_id.h"

namespace yoio {

// Holds nothing of a prompt or an output (docs/operations.md, "Privacy").
struct CallRecord {
  std::string_view method;  // "Generate": a literal
  std::string tenant;
  std::string request_id;  // empty when none was known
  uint64_t number = 0;     // in the engine's flight recorder; 0: it never reached the queue

  TraceId trace;                         // its own span
  std::array<uint8_t, 8> parent_span{};  // of the caller; all zeros without one
  std::string trace_state;               // as the caller sent it

  TimePoint arrival{};
  TimePoint ended{};
  grpc::StatusCode code = grpc::StatusCode::OK;
  std::string reason;  // as in ErrorInfo; empty unless it failed
  bool accepted = false;
  int64_t tokens_sent = 0;
  std::optional<Duration> deadline_left;

  std::optional<AcceptedEvent> request;  // effective sampling values, no logit_bias; once it was accepted
  std::optional<FinishReason> finish_reason;  // of the choice that ended last
  std::optional<SummaryEvent> summary;        // usage, and timing up to `ended`; once it was queued
  TimePoint first_sent{};                     // when the first message of the stream was ready to go
};

// Told of every call that ends. Thread-safe; must not block: it runs on the threads of gRPC.
class CallObserver {
 public:
  virtual ~CallObserver() = default;
  virtual void Ended(const CallRecord& record) = 0;
};

}  // namespace yoio

#endif  // YOIO_SERVER_CALL_RECORD_H_
