// A log line stays one line of JSON, whatever is put in.
#include "server/log.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace yoio {
namespace {

// The line without its leading time.
std::string AfterTime(LogLine&& line) {
  const std::string text = std::move(line).Finish();
  EXPECT_EQ(text.rfind("{\"time\":\"", 0), 0u) << text;
  return text.substr(text.find("\"level\""));
}

TEST(LogTest, ValuesOfEveryKind) {
  LogLine line(LogLevel::kWarning, "drained");
  line.With("text", "a")
      .With("count", int64_t{3})
      .With("yes", true)
      .With("wait", std::chrono::milliseconds(1500));
  EXPECT_EQ(AfterTime(std::move(line)),
            "\"level\":\"warning\",\"event\":\"drained\",\"text\":\"a\",\"count\":3,\"yes\":true,\"wait\":1."
            "500000}\n");
}

TEST(LogTest, NothingBreaksOutOfItsLine) {
  LogLine line(LogLevel::kInfo, "e");
  line.With("k", std::string_view("a\"b\\c\nd\0e\x7f", 10));
  EXPECT_EQ(AfterTime(std::move(line)),
            "\"level\":\"info\",\"event\":\"e\",\"k\":\"a\\\"b\\\\c\\u000ad\\u0000e\\u007f\"}\n");
}

TEST(LogTest, LoggerPassesWholeLines) {
  std::string out;
  const Logger log([&out](LogLevel, std::string_view line) { out += line; });
  log.Write(LogLine(LogLevel::kError, "a"));
  log.Write(LogLine(LogLevel::kError, "b"));
  EXPECT_EQ(std::count(out.begin(), out.end(), '\n'), 2);
}

}  // namespace
}  // namespace yoio
