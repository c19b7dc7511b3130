// The spans of a request.
#ifndef YOIO_SERVER_TRACE_REQUEST_SPANS_H_
#define YOIO_SERVER_TRACE_REQUEST_SPANS_H_

#include <string>
#include <vector>

#include "engine/flight_recorder.h"
#include "server/call_record.h"
#include "server/trace/span.h"
#include "server/trace/span_maker.h"

namespace yoio {

// The model as spans name it.
struct ModelLabel {
  std::string name;
  std::string revision;
};

// The server's span of a call, then its children in the order in which they begin: tokenize, queue, prefill
// and decode, which follow each other without a gap, and stream, from the first message to the end. What the
// request did not come to has no span. Names and attributes follow OpenTelemetry's conventions for RPC and
// GenAI, gen_ai.latency.* those that other servers share; all else is yoio.*. Durations are in seconds.
std::vector<Span> RequestSpans(const CallRecord& record, const ModelLabel& model, const SpanMaker& maker);

// The server's span of a call that submitted nothing to the engine, named by its method as gRPC does it.
Span SimpleCallSpan(const CallRecord& record, const SpanMaker& maker);

// Adds to the spans of a request that they are exported although nobody had asked for it when the request
// began, and the steps that took longest of those that it was in.
void MarkLate(const CallRecord& record, const std::vector<StepRecord>& slowest_steps, const SpanMaker& maker,
              std::vector<Span>& spans);

}  // namespace yoio

#endif  // YOIO_SERVER_TRACE_REQUEST_SPANS_H_
