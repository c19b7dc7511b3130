// What a span is on the wire.
#include "server/trace/to_otlp.h"

#include <gtest/gtest.h>

#include <string>

#include "server/wall_clock.h"

namespace yoio {
namespace {

namespace otlp = opentelemetry::proto;

otlp::trace::v1::Span Convert(const Span& span, const SpanLimits& limits = {}) {
  otlp::trace::v1::Span message;
  ToOtlp(span, limits, message);
  return message;
}

Span SomeSpan() {
  Span span;
  span.id = {.trace = {1, 2}, .span = {3}, .sampled = true};
  span.name = "queue";
  span.start_unix_ns = 1'700'000'000'000'000'001;
  span.end_unix_ns = 1'700'000'000'500'000'002;
  return span;
}

TEST(ToOtlpTest, AFullSpan) {
  Span span = SomeSpan();
  span.parent = {9};
  span.remote_parent = true;
  span.trace_state = "a=1";
  span.kind = SpanKind::kServer;
  span.attributes = {{"text", "x"},
                     {"whole", int64_t{-7}},
                     {"real", 0.25},
                     {"truth", true},
                     {"texts", std::vector<std::string>{"a", "b"}}};
  span.events = {{.time_unix_ns = 5, .name = "first token", .attributes = {{"n", int64_t{1}}}}};
  span.links = {{.to = {.trace = {7}, .span = {8}, .sampled = true}, .attributes = {{"tokens", int64_t{4}}}}};
  span.dropped_attributes = 1;
  span.dropped_events = 2;
  span.dropped_links = 3;
  span.status = SpanStatus::kError;
  span.status_message = "the client cancelled the call";

  const otlp::trace::v1::Span message = Convert(span);
  EXPECT_EQ(message.trace_id(), std::string("\1\2", 2) + std::string(14, '\0'));
  EXPECT_EQ(message.span_id(), "\3" + std::string(7, '\0'));
  EXPECT_EQ(message.parent_span_id(), "\x9" + std::string(7, '\0'));
  EXPECT_EQ(message.flags(), 0x301u);
  EXPECT_EQ(message.trace_state(), "a=1");
  EXPECT_EQ(message.name(), "queue");
  EXPECT_EQ(message.kind(), otlp::trace::v1::Span::SPAN_KIND_SERVER);
  EXPECT_EQ(message.start_time_unix_nano(), 1'700'000'000'000'000'001u);
  EXPECT_EQ(message.end_time_unix_nano(), 1'700'000'000'500'000'002u);
  ASSERT_EQ(message.attributes_size(), 5);
  EXPECT_EQ(message.attributes(0).key(), "text");
  EXPECT_EQ(message.attributes(0).value().string_value(), "x");
  EXPECT_EQ(message.attributes(1).value().int_value(), -7);
  EXPECT_EQ(message.attributes(2).value().double_value(), 0.25);
  EXPECT_TRUE(message.attributes(3).value().bool_value());
  ASSERT_EQ(message.attributes(4).value().array_value().values_size(), 2);
  EXPECT_EQ(message.attributes(4).value().array_value().values(1).string_value(), "b");
  ASSERT_EQ(message.events_size(), 1);
  EXPECT_EQ(message.events(0).time_unix_nano(), 5u);
  EXPECT_EQ(message.events(0).name(), "first token");
  EXPECT_EQ(message.events(0).attributes(0).value().int_value(), 1);
  ASSERT_EQ(message.links_size(), 1);
  EXPECT_EQ(message.links(0).trace_id()[0], 7);
  EXPECT_EQ(message.links(0).span_id()[0], 8);
  EXPECT_EQ(message.links(0).flags() & 1, 1u);
  EXPECT_EQ(message.links(0).attributes(0).key(), "tokens");
  EXPECT_EQ(message.dropped_attributes_count(), 1u);
  EXPECT_EQ(message.dropped_events_count(), 2u);
  EXPECT_EQ(message.dropped_links_count(), 3u);
  EXPECT_EQ(message.status().code(), otlp::trace::v1::Status::STATUS_CODE_ERROR);
  EXPECT_EQ(message.status().message(), "the client cancelled the call");
}

TEST(ToOtlpTest, ARootSpanHasNoParentAndNothingToSay) {
  Span span = SomeSpan();
  span.id.sampled = false;
  const otlp::trace::v1::Span message = Convert(span);
  EXPECT_TRUE(message.parent_span_id().empty());
  EXPECT_EQ(message.flags(), 0x100u);
  EXPECT_FALSE(message.has_status());
  EXPECT_EQ(message.kind(), otlp::trace::v1::Span::SPAN_KIND_INTERNAL);
}

TEST(ToOtlpTest, LinksBeyondTheLimitAreCounted) {
  Span span = SomeSpan();
  span.links.resize(10);
  span.dropped_links = 5;
  const otlp::trace::v1::Span message = Convert(span, {.links = 4});
  EXPECT_EQ(message.links_size(), 4);
  EXPECT_EQ(message.dropped_links_count(), 11u);
}

TEST(ToOtlpTest, TextsAreCutBetweenCharacters) {
  Span span = SomeSpan();
  span.attributes = {{"a", "12\xc3\xa4"},
                     {"b",
                      "1\xc3\xa4"
                      "4"},
                     {"c", std::vector<std::string>{"12345"}}};
  const otlp::trace::v1::Span message = Convert(span, {.value_bytes = 3});
  EXPECT_EQ(message.attributes(0).value().string_value(), "12");
  EXPECT_EQ(message.attributes(1).value().string_value(), "1\xc3\xa4");
  EXPECT_EQ(message.attributes(2).value().array_value().values(0).string_value(), "123");
}

TEST(ToOtlpTest, TextsAreUtf8) {
  Span span = SomeSpan();
  span.attributes = {{"a", "x\xffy"}, {"b", "x\xc3"}};
  const otlp::trace::v1::Span message = Convert(span);
  EXPECT_EQ(message.attributes(0).value().string_value(), "x\xef\xbf\xbdy");
  EXPECT_EQ(message.attributes(1).value().string_value(), "x\xef\xbf\xbd");
}

TEST(ToOtlpTest, NoSpanEndsBeforeItBegins) {
  Span span = SomeSpan();
  span.end_unix_ns = span.start_unix_ns - 1;
  EXPECT_EQ(Convert(span).end_time_unix_nano(), Convert(span).start_time_unix_nano());
}

TEST(ToOtlpTest, TheResource) {
  TraceOptions options;
  options.resource = {{"service.name", "yoio"}, {"process.pid", int64_t{12}}};
  const auto message = ResourceToOtlp(options);
  ASSERT_EQ(message.attributes_size(), 2);
  EXPECT_EQ(message.attributes(0).key(), "service.name");
  EXPECT_EQ(message.attributes(0).value().string_value(), "yoio");
  EXPECT_EQ(message.attributes(1).value().int_value(), 12);
}

TEST(WallClockTest, MomentsKeepTheirDistances) {
  const auto epoch = std::chrono::system_clock::time_point{};
  const WallClock clock(TimePoint{std::chrono::seconds(50)}, epoch + std::chrono::seconds(1'700'000'000));
  EXPECT_EQ(clock.UnixNanos(TimePoint{std::chrono::seconds(50)}), 1'700'000'000'000'000'000);
  EXPECT_EQ(clock.UnixNanos(TimePoint{std::chrono::seconds(49)}), 1'699'999'999'000'000'000);
  const int64_t now = std::chrono::nanoseconds(std::chrono::system_clock::now().time_since_epoch()).count();
  EXPECT_NEAR(static_cast<double>(WallClock().UnixNanos(Clock::now()) - now), 0, 1e9);
}

}  // namespace
}  // namespace yoio
