// Makes spans of what was measured.
#ifndef YOIO_SERVER_TRACE_SPAN_MAKER_H_
#define YOIO_SERVER_TRACE_SPAN_MAKER_H_

#include <string>
#include <string_view>
#include <utility>

#include "base/clock.h"
#include "engine/trace_id.h"
#include "server/trace/span.h"
#include "server/trace/tracer.h"

namespace yoio {

// Gives spans their ids and their times, whether or not the tracer, which outlives it, is enabled.
// Thread-safe.
class SpanMaker {
 public:
  explicit SpanMaker(Tracer& tracer) : tracer_(tracer) {}

  // With the given id and no parent.
  Span Make(const TraceId& id, std::string name, TimePoint begin, TimePoint end) const;
  // What reaches out of the parent is cut.
  Span Child(const Span& parent, std::string name, TimePoint begin, TimePoint end) const;

 private:
  Tracer& tracer_;
};

// Adds an attribute. `key` is a literal.
template <typename T>
void Set(Span& span, std::string_view key, T value) {
  span.attributes.push_back({key, AttributeValue(std::move(value))});
}
// In seconds.
inline void Set(Span& span, std::string_view key, Duration value) { Set(span, key, ToSeconds(value)); }
inline void Set(Span& span, std::string_view key, std::string_view value) {
  Set(span, key, std::string(value));
}
inline void Set(Span& span, std::string_view key, const char* value) { Set(span, key, std::string(value)); }

}  // namespace yoio

#endif  // YOIO_SERVER_TRACE_SPAN_MAKER_H_
