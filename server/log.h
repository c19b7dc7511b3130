// Structured logging: one JSON object a line.
#ifndef YOIO_SERVER_LOG_H_
#define YOIO_SERVER_LOG_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "base/clock.h"

namespace yoio {

enum class LogLevel { kDebug, kInfo, kWarning, kError };

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
  // A value of any shape, as JSON.
  LogLine& WithJson(std::string_view key, std::string_view json);

  // The line, its newline included.
  std::string Finish() &&;
  LogLevel level() const { return level_; }

 private:
  void Key(std::string_view key);
  LogLevel level_;
  std::string text_;
};

// Where lines go. Thread-safe; outlives everything that logs.
class Logger {
 public:
  // Writes each line to standard error with a single write, so that lines of several threads never mix.
  Logger();
  // Writes each line to `sink`, which must be thread-safe.
  explicit Logger(std::function<void(std::string_view line)> sink) : sink_(std::move(sink)) {}

  // Lines below the level are dropped; kInfo to begin with. Ask first where building a line costs something.
  bool Writes(LogLevel level) const { return level >= level_.load(std::memory_order_relaxed); }
  // Returns the level before.
  LogLevel SetLevel(LogLevel level) { return level_.exchange(level); }

  void Write(LogLine&& line) const {
    if (Writes(line.level())) sink_(std::move(line).Finish());
  }

 private:
  const std::function<void(std::string_view line)> sink_;
  std::atomic<LogLevel> level_{LogLevel::kInfo};
};

}  // namespace yoio

#endif  // YOIO_SERVER_LOG_H_
