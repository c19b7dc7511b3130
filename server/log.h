// Structured logging: one JSON object a line.
#ifndef YOIO_SERVER_LOG_H_
#define YOIO_SERVER_LOG_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "base/clock.h"

namespace yoio {

class LogWriter;

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
  using Sink = std::function<void(LogLevel level, std::string_view line)>;

  // Writes to standard error, and waits for nobody who reads it (server/log_writer.h).
  Logger();
  // Writes each line to `sink`, which must be thread-safe.
  explicit Logger(Sink sink);
  ~Logger();

  // Lines below the level are dropped; kInfo to begin with. Ask first where building a line costs something.
  bool Writes(LogLevel level) const { return level >= level_.load(std::memory_order_relaxed); }
  // Returns the level before.
  LogLevel SetLevel(LogLevel level) { return level_.exchange(level); }

  void Write(LogLine&& line) const {
    if (Writes(line.level())) sink_(line.level(), std::move(line).Finish());
  }
  // Before the process ends: gives lines that standard error has not taken yet a second to go.
  void Flush() const;
  // Lines that standard error has not taken.
  int64_t dropped() const;

 private:
  const std::unique_ptr<LogWriter> writer_;  // null with a sink of somebody else
  const Sink sink_;
  std::atomic<LogLevel> level_{LogLevel::kInfo};
};

}  // namespace yoio

#endif  // YOIO_SERVER_LOG_H_
