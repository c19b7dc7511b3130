// A span: something that took a while, as OpenTelemetry's data model has it.
#ifndef YOIO_SERVER_TRACE_SPAN_H_
#define YOIO_SERVER_TRACE_SPAN_H_

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "engine/trace_id.h"

namespace yoio {

using AttributeValue = std::variant<bool, int64_t, double, std::string, std::vector<std::string>>;

// Holds nothing of a prompt or an output.
struct Attribute {
  std::string_view key;  // a literal
  AttributeValue value;
};

struct SpanEvent {
  int64_t time_unix_ns = 0;
  std::string_view name;  // a literal
  std::vector<Attribute> attributes;
};

// Another span that this one has to do with and that is not its parent.
struct SpanLink {
  TraceId to;
  std::vector<Attribute> attributes;
};

// The published numbers.
enum class SpanKind : uint8_t { kInternal = 1, kServer = 2 };
enum class SpanStatus : uint8_t { kUnset = 0, kOk = 1, kError = 2 };

// One that has ended. The exporter cuts it to the limits of TraceOptions and counts what it leaves out.
struct Span {
  TraceId id;                       // `sampled` as it was propagated: false in one that is late-sampled
  std::array<uint8_t, 8> parent{};  // all zeros: the first span of its trace
  bool remote_parent = false;       // the parent is of another process
  std::string trace_state;
  std::string name;
  SpanKind kind = SpanKind::kInternal;
  int64_t start_unix_ns = 0;  // by Tracer::UnixNanos
  int64_t end_unix_ns = 0;
  std::vector<Attribute> attributes;
  std::vector<SpanEvent> events;
  std::vector<SpanLink> links;
  uint32_t dropped_attributes = 0;  // left out by whoever made the span
  uint32_t dropped_events = 0;
  uint32_t dropped_links = 0;
  SpanStatus status = SpanStatus::kUnset;
  std::string status_message;  // empty unless kError
};

}  // namespace yoio

#endif  // YOIO_SERVER_TRACE_SPAN_H_
