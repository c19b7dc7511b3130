// Spans in OpenTelemetry's protocol.
#ifndef YOIO_SERVER_TRACE_TO_OTLP_H_
#define YOIO_SERVER_TRACE_TO_OTLP_H_

#include "opentelemetry/proto/resource/v1/resource.pb.h"
#include "opentelemetry/proto/trace/v1/trace.pb.h"
#include "server/trace/span.h"
#include "server/trace/trace_options.h"

namespace yoio {

// Fills `message`, which is empty. Links and texts are cut to `limits`; what is not UTF-8 is replaced by
// U+FFFD.
void ToOtlp(const Span& span, const SpanLimits& limits, opentelemetry::proto::trace::v1::Span& message);

opentelemetry::proto::resource::v1::Resource ResourceToOtlp(const TraceOptions& options);

}  // namespace yoio

#endif  // YOIO_SERVER_TRACE_TO_OTLP_H_
