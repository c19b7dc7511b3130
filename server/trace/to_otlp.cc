#include "server/trace/to_otlp.h"

#include <algorithm>
#include <string>
#include <string_view>
#include <type_traits>
#include <variant>

#include "engine/tokenizer/utf8.h"

namespace yoio {
namespace {

namespace otlp = opentelemetry::proto;

constexpr uint32_t kSampledFlag = 1;
constexpr uint32_t kRemoteIsKnown = 0x100;
constexpr uint32_t kRemote = 0x200;

template <typename Bytes>
std::string BytesOf(const Bytes& bytes) {
  return {bytes.begin(), bytes.end()};
}

// At most `max_bytes` of `text`, never a part of a character.
std::string Cut(std::string_view text, size_t max_bytes) {
  const std::string_view kept = text.substr(0, max_bytes);
  const size_t tail = kept.size() < text.size() ? UnfinishedUtf8Tail(kept) : 0;
  return ReplaceMalformedUtf8(kept.substr(0, kept.size() - tail));
}

void ToOtlp(const AttributeValue& value, const SpanLimits& limits, otlp::common::v1::AnyValue& message) {
  std::visit(
      [&](const auto& held) {
        using T = std::decay_t<decltype(held)>;
        if constexpr (std::is_same_v<T, bool>) {
          message.set_bool_value(held);
        } else if constexpr (std::is_same_v<T, int64_t>) {
          message.set_int_value(held);
        } else if constexpr (std::is_same_v<T, double>) {
          message.set_double_value(held);
        } else if constexpr (std::is_same_v<T, std::string>) {
          message.set_string_value(Cut(held, limits.value_bytes));
        } else {
          auto& values = *message.mutable_array_value()->mutable_values();
          for (const std::string& text : held) values.Add()->set_string_value(Cut(text, limits.value_bytes));
        }
      },
      value);
}

template <typename Messages>
void ToOtlp(const std::vector<Attribute>& attributes, const SpanLimits& limits, Messages& messages) {
  messages.Reserve(static_cast<int>(attributes.size()));
  for (const Attribute& attribute : attributes) {
    otlp::common::v1::KeyValue& message = *messages.Add();
    message.set_key(std::string(attribute.key));
    ToOtlp(attribute.value, limits, *message.mutable_value());
  }
}

}  // namespace

void ToOtlp(const Span& span, const SpanLimits& limits, otlp::trace::v1::Span& message) {
  message.set_trace_id(BytesOf(span.id.trace));
  message.set_span_id(BytesOf(span.id.span));
  if (span.parent != std::array<uint8_t, 8>{}) message.set_parent_span_id(BytesOf(span.parent));
  message.set_trace_state(ReplaceMalformedUtf8(span.trace_state));
  message.set_flags(kRemoteIsKnown | (span.remote_parent ? kRemote : 0) |
                    (span.id.sampled ? kSampledFlag : 0));
  message.set_name(Cut(span.name, limits.value_bytes));
  message.set_kind(static_cast<otlp::trace::v1::Span::SpanKind>(span.kind));
  message.set_start_time_unix_nano(span.start_unix_ns);
  message.set_end_time_unix_nano(std::max(span.start_unix_ns, span.end_unix_ns));
  ToOtlp(span.attributes, limits, *message.mutable_attributes());
  for (const SpanEvent& event : span.events) {
    otlp::trace::v1::Span::Event& added = *message.add_events();
    added.set_time_unix_nano(event.time_unix_ns);
    added.set_name(std::string(event.name));
    ToOtlp(event.attributes, limits, *added.mutable_attributes());
  }
  const size_t links = std::min(span.links.size(), limits.links);
  for (size_t i = 0; i < links; ++i) {
    otlp::trace::v1::Span::Link& added = *message.add_links();
    added.set_trace_id(BytesOf(span.links[i].to.trace));
    added.set_span_id(BytesOf(span.links[i].to.span));
    added.set_flags(span.links[i].to.sampled ? kSampledFlag : 0);
    ToOtlp(span.links[i].attributes, limits, *added.mutable_attributes());
  }
  message.set_dropped_attributes_count(span.dropped_attributes);
  message.set_dropped_events_count(span.dropped_events);
  message.set_dropped_links_count(span.dropped_links + static_cast<uint32_t>(span.links.size() - links));
  if (span.status == SpanStatus::kUnset) return;
  message.mutable_status()->set_code(static_cast<otlp::trace::v1::Status::StatusCode>(span.status));
  message.mutable_status()->set_message(Cut(span.status_message, limits.value_bytes));
}

otlp::resource::v1::Resource ResourceToOtlp(const TraceOptions& options) {
  otlp::resource::v1::Resource message;
  for (const auto& [key, value] : options.resource) {
    otlp::common::v1::KeyValue& attribute = *message.add_attributes();
    attribute.set_key(key);
    ToOtlp(value, options.limits, *attribute.mutable_value());
  }
  return message;
}

}  // namespace yoio
