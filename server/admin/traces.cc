#include "server/admin/traces.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "base/status.h"
#include "engine/errors.h"
#include "server/admin/trace_messages.h"
#include "server/limits.h"

namespace yoio {
namespace {

constexpr Duration kSince = std::chrono::minutes(5);  // unless the request says
constexpr int kMaxSteps = 1024;                       // of one message
// Of one message: a step is far smaller than what is left to kMaxResponseBytes.
constexpr size_t kFullBytes = kMaxResponseBytes / 2;

using Records = std::vector<RequestRecord>;

Records NewestFirst(Records records) {
  std::reverse(records.begin(), records.end());
  return records;
}

absl::StatusOr<Records> Select(const FlightRecorder& recorder, const v1::GetTracesRequest& request) {
  Duration since = kSince;
  switch (request.selection_case()) {
    case v1::GetTracesRequest::kRequestId: {
      Records records = NewestFirst(recorder.RequestsById(request.request_id()));
      if (!records.empty()) return records;
      return WithReason(absl::StatusCode::kNotFound, "UNKNOWN_REQUEST",
                        "request_id: none of the last requests has it");
    }
    case v1::GetTracesRequest::kSlowest:
      if (request.slowest() >= 1) return recorder.SlowestRequests(request.slowest());
      return absl::InvalidArgumentError("slowest: expected 1 or more");
    case v1::GetTracesRequest::kSince: {
      YOIO_ASSIGN_OR_RETURN(since, PositiveDuration(request.since(), "since"));
      break;
    }
    case v1::GetTracesRequest::SELECTION_NOT_SET:
      break;
  }
  return NewestFirst(recorder.RequestsSince(Clock::now() - since));
}

class TracesAnswer final : public AnswerSource<v1::GetTracesResponse> {
 public:
  TracesAnswer(const FlightRecorder& recorder, const ServedModel& model, const v1::GetTracesRequest& request)
      : recorder_(recorder), model_(model), request_(request), names_(recorder) {}

  AnswerPart<v1::GetTracesResponse> Next() override {
    if (!begun_) {
      begun_ = true;
      absl::StatusOr<Records> records = Select(recorder_, request_);
      if (!records.ok()) return records.status();
      records_ = *std::move(records);
    }
    if (next_record_ == records_.size()) return absl::OkStatus();
    const RequestRecord& record = records_[next_record_];
    v1::GetTracesResponse response;
    if (next_step_ == 0) {
      ToProto(record, clock_, model_, *response.mutable_trace());
      if (request_.steps()) steps_ = recorder_.StepsOf(record.number);
    } else {
      response.mutable_trace()->set_request_id(record.id);
    }
    AddSteps(record.number, *response.mutable_trace());
    if (next_step_ == steps_.size()) {
      steps_.clear();
      next_step_ = 0;
      ++next_record_;
    }
    return response;
  }

 private:
  // As many as fit.
  void AddSteps(RequestNumber request, v1::RequestTrace& trace) {
    size_t bytes = 0;
    for (; next_step_ < steps_.size() && trace.steps_size() < kMaxSteps && bytes < kFullBytes; ++next_step_) {
      v1::StepTrace& step = *trace.add_steps();
      ToProto(steps_[next_step_], request, clock_, names_, step);
      bytes += step.ByteSizeLong();
    }
  }

  const FlightRecorder& recorder_;
  const ServedModel& model_;
  const v1::GetTracesRequest request_;
  const WallClock clock_;
  RequestNames names_;
  bool begun_ = false;
  Records records_;
  size_t next_record_ = 0;
  std::vector<StepRecord> steps_;  // of that record
  size_t next_step_ = 0;
};

}  // namespace

absl::StatusOr<std::unique_ptr<AnswerSource<v1::GetTracesResponse>>> AnswerTraces(
    const Engine& engine, const ServedModel& model, const v1::GetTracesRequest& request) {
  if (engine.recorder() == nullptr) {
    return absl::UnimplementedError("GetTraces: this engine has no flight recorder");
  }
  return std::make_unique<TracesAnswer>(*engine.recorder(), model, request);
}

}  // namespace yoio
