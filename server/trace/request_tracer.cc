#include "server/trace/request_tracer.h"

#include <utility>
#include <vector>

namespace yoio {
namespace {

bool Failed(const CallRecord& record) {
  return record.code != grpc::StatusCode::OK && record.code != grpc::StatusCode::CANCELLED;
}

}  // namespace

void RequestTracer::Ended(const CallRecord& record) {
  if (!record.trace.valid()) return;
  const bool late = !record.trace.sampled;
  if (late && !(IsLate(record) && late_budget_.Take("", record.ended))) return;
  std::vector<Span> spans = RequestSpans(record, model_, maker_);
  if (late) {
    std::vector<StepRecord> steps;
    if (recorder_ != nullptr && record.number > 0) steps = recorder_->StepsOf(record.number, kSlowestSteps);
    MarkLate(record, steps, maker_, spans);
  }
  tracer_.Export(std::move(spans));
}

bool RequestTracer::IsLate(const CallRecord& record) const {
  return Failed(record) || (slow_ > Duration::zero() && record.ended - record.arrival > slow_);
}

}  // namespace yoio
