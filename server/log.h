// Structured logging: one JSON object a line.
#ifndef YOIO_SERVER_LOG_H_
#define YOIO_SERVER_LOG_H_

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "base/clock.h"

namespace yoio {

enum class LogLevel { kInfo, kWarning, kError };

// Builds one line, {"time":"...","level":"info","event":"drained","finished":12}. Values are escaped, so that
// a line stays a line. By rule nothing of a caller's prompt, output, token ids, stop strings or keys is put
// in.
class LogLine {
 public:
  LogLine(LogLevel level, std::string_view event);
  LogLine& With(std::string_view key, std::string_view value);
  LogLine& With(std::string_view key, const char* value) { return With(key, std::string_view(value)); }
  LogLine& With(std::string_view key, int64_t value);
  LogLine& With(std::string_view key, int value) { return With(key, static_cast<int64_t>(value)); }
  LogLine& With(std::string_view key, bool value);
  // In seconds.
  LogLine& With(std::string_view key, Duration value);

  // The line, its newline included.
  std::string Finish() &&;

 private:
  void Key(std::string_view key);
  std::string text_;
};

// Where lines go. Thread-safe; outlives everything that logs.
class Logger {
 public:
  // Writes each line to standard error with a single write, so that lines of several threads never mix.
  Logger();
  // Writes each line to `sink`, which must be thread-safe.
  explicit Logger(std::function<void(std::string_view line)> sink) : sink_(std::move(sink)) {}

  void Write(LogLine&& line) const { sink_(std::move(line).Finish()); }

 private:
  std::function<void(std::string_view line)> sink_;
};

}  // namespace yoio

#endif  // YOIO_SERVER_LOG_H_
