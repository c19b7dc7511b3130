#include "server/trace/span_maker.h"

#include <algorithm>

namespace yoio {

Span SpanMaker::Make(const TraceId& id, std::string name, TimePoint begin, TimePoint end) const {
  Span span;
  span.id = id;
  span.name = std::move(name);
  span.start_unix_ns = tracer_.UnixNanos(begin);
  span.end_unix_ns = std::max(tracer_.UnixNanos(end), span.start_unix_ns);
  return span;
}

Span SpanMaker::Child(const Span& parent, std::string name, TimePoint begin, TimePoint end) const {
  TraceId id = parent.id;
  id.span = tracer_.NewSpanId();
  Span span = Make(id, std::move(name), begin, end);
  span.parent = parent.id.span;
  span.trace_state = parent.trace_state;
  span.start_unix_ns = std::clamp(span.start_unix_ns, parent.start_unix_ns, parent.end_unix_ns);
  span.end_unix_ns = std::clamp(span.end_unix_ns, span.start_unix_ns, parent.end_unix_ns);
  return span;
}

}  // namespace yoio
