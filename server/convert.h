// Between the messages of yoio.v1 and the plain types of the engine.
//
// Presence, enums and oneofs are checked here; ranges and everything that needs the model are checked by the
// engine's admission.
#ifndef YOIO_SERVER_CONVERT_H_
#define YOIO_SERVER_CONVERT_H_

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/clock.h"
#include "engine/engine.h"
#include "engine/event.h"
#include "engine/request.h"
#include "engine/trace_id.h"
#include "server/limits.h"
#include "server/place.h"

namespace google::protobuf {
class Duration;
}

namespace yoio {

namespace v1 {
class GenerateOnceRequest;
class GenerateOnceResponse;
class GenerateRequest;
class GenerateResponse;
class GetLoadResponse;
class GetModelInfoResponse;
class GetServerInfoResponse;
class ScoreRequest;
class ScoreResponse;
class ServerLimits;
class Timing;
}  // namespace v1

// The model as callers know it. `info` outlives it.
struct ServedModel {
  const ModelInfo* info;
  std::vector<std::string> names;  // the served name, then aliases; never empty
};

// How the events of one request are shown.
struct EventView {
  const ServedModel* model;
  bool ids = false;       // deltas carry token ids
  bool logprobs = false;  // deltas carry token records
  // When the request would have been ended; max() for never.
  TimePoint deadline = TimePoint::max();
  TraceId trace = {};
  const Place* place = nullptr;  // null: not known
};

// NOT_FOUND unless `name` is empty or a name of `model`.
absl::Status CheckModelName(const std::string& name, const ServedModel& model);

// INVALID_ARGUMENT unless `id` has 1 to `max_bytes` characters of [A-Za-z0-9._:-]. The id is not repeated.
absl::Status CheckRequestId(std::string_view id, int max_bytes);

// Fills everything but id, tenant, arrival and deadline.
absl::StatusOr<Request> ToRequest(const v1::GenerateRequest& message, const ServedModel& model);
absl::StatusOr<Request> ToRequest(const v1::ScoreRequest& message, const ServedModel& model);

// Appends `event` as messages, each at most kMaxResponseBytes: one, or more where a delta is very long.
// Score has no message for FinishedEvent.
void AppendResponses(Event event, const EventView& view, std::vector<v1::GenerateResponse>& out);
void AppendResponses(Event event, const EventView& view, std::vector<v1::ScoreResponse>& out);

// Adds `event` to a whole answer. Progress is left out.
void MergeIntoAnswer(Event event, const EventView& view, v1::GenerateOnceResponse& answer);

void ToProto(const Timing& timing, const EventView& view, v1::Timing& out);
void ToProto(const Load& load, v1::GetLoadResponse& out);
void ToProto(const ServedModel& model, v1::GetModelInfoResponse& out);
void ToProto(const Limits& limits, const ModelInfo& model, Duration stall_timeout, v1::ServerLimits& out);
void ToProto(Duration duration, google::protobuf::Duration& out);
// INVALID_ARGUMENT naming `field` for a duration out of range or not above zero.
absl::StatusOr<Duration> PositiveDuration(const google::protobuf::Duration& duration, std::string_view field);

}  // namespace yoio

#endif  // YOIO_SERVER_CONVERT_H_
