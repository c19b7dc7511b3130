#include "server/log.h"

#include <unistd.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "server/log_writer.h"

namespace yoio {
namespace {

constexpr Duration kFlushTime = std::chrono::seconds(1);

std::string_view LevelName(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return "debug";
    case LogLevel::kInfo:
      return "info";
    case LogLevel::kWarning:
      return "warning";
    case LogLevel::kError:
      return "error";
  }
  return "error";
}

void AppendJsonString(std::string_view value, std::string& out) {
  out.push_back('"');
  for (const char c : value) {
    if (c == '"' || c == '\\') {
      out.push_back('\\');
      out.push_back(c);
    } else if (static_cast<unsigned char>(c) < 0x20 || static_cast<unsigned char>(c) == 0x7f) {
      absl::StrAppendFormat(&out, "\\u%04x", c);
    } else {
      out.push_back(c);
    }
  }
  out.push_back('"');
}

}  // namespace

LogLine::LogLine(LogLevel level, std::string_view event) : level_(level), text_("{") {
  With("time", absl::FormatTime("%Y-%m-%dT%H:%M:%E3SZ", absl::Now(), absl::UTCTimeZone()));
  With("level", LevelName(level));
  With("event", event);
}

void LogLine::Key(std::string_view key) {
  if (text_.size() > 1) text_.push_back(',');
  AppendJsonString(key, text_);
  text_.push_back(':');
}

LogLine& LogLine::With(std::string_view key, std::string_view value) {
  Key(key);
  AppendJsonString(value, text_);
  return *this;
}

LogLine& LogLine::With(std::string_view key, int64_t value) {
  Key(key);
  absl::StrAppend(&text_, value);
  return *this;
}

LogLine& LogLine::With(std::string_view key, bool value) {
  Key(key);
  absl::StrAppend(&text_, value ? "true" : "false");
  return *this;
}

LogLine& LogLine::With(std::string_view key, Duration value) {
  Key(key);
  absl::StrAppendFormat(&text_, "%.6f", ToSeconds(value));
  return *this;
}

LogLine& LogLine::WithJson(std::string_view key, std::string_view json) {
  Key(key);
  text_.append(json);
  return *this;
}

std::string LogLine::Finish() && {
  text_ += "}\n";
  return std::move(text_);
}

Logger::Logger()
    : writer_(std::make_unique<LogWriter>(STDERR_FILENO)),
      sink_([this](LogLevel level, std::string_view line) { writer_->Write(level, line); }) {}

Logger::Logger(Sink sink) : sink_(std::move(sink)) {}

Logger::~Logger() = default;

void Logger::Flush() const {
  if (writer_ != nullptr) writer_->Flush(kFlushTime);
}

int64_t Logger::dropped() const { return writer_ == nullptr ? 0 : writer_->dropped(); }

}  // namespace yoio
