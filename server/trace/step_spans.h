// The spans of a step.
#ifndef YOIO_SERVER_TRACE_STEP_SPANS_H_
#define YOIO_SERVER_TRACE_STEP_SPANS_H_

#include <span>
#include <vector>

#include "engine/flight_recorder.h"
#include "server/trace/span.h"
#include "server/trace/span_maker.h"

namespace yoio {

inline constexpr int kMaxStepLinks = 128;

// A trace of its own, begun by `id`, for a step that has ended: `step`, linked to `requests`, the spans of
// sampled requests that it computed, as far as kMaxStepLinks go; its children `plan` and a `rank` for each
// rank, whose children are the phases that took time.
std::vector<Span> StepSpans(const StepRecord& step, const TraceId& id, std::span<const TraceId> requests,
                            const SpanMaker& maker);

// A child of `server`, the span of `request`: a step that took the request long, its phases as attributes,
// each of the rank where it took longest. A step that has not ended reaches to `now`.
Span SlowStepSpan(const StepRecord& step, RequestNumber request, const Span& server, TimePoint now,
                  const SpanMaker& maker);

}  // namespace yoio

#endif  // YOIO_SERVER_TRACE_STEP_SPANS_H_
