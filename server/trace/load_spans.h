// The spans of start-up.
#ifndef YOIO_SERVER_TRACE_LOAD_SPANS_H_
#define YOIO_SERVER_TRACE_LOAD_SPANS_H_

#include <vector>

#include "base/clock.h"
#include "engine/engine.h"
#include "server/trace/request_spans.h"
#include "server/trace/span.h"
#include "server/trace/span_maker.h"

namespace yoio {

// A trace of its own, begun by `id`: `load`, from `begin` to `end`, with a child for each of `parts`.
std::vector<Span> LoadSpans(const TraceId& id, TimePoint begin, TimePoint end,
                            const std::vector<LoadTime>& parts, const ModelLabel& model,
                            const SpanMaker& maker);

}  // namespace yoio

#endif  // YOIO_SERVER_TRACE_LOAD_SPANS_H_
