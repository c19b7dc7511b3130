// Log lines on their way to a file that may not take them.
#ifndef YOIO_SERVER_LOG_WRITER_H_
#define YOIO_SERVER_LOG_WRITER_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "server/log.h"

namespace yoio {

// Writes lines in the order in which they come, and never lets whoever logs wait for who reads. While the
// file takes lines, the caller writes its own: it is out when Write returns, whatever ends the process next.
// When a pipe is full because its reader has stalled, lines wait for a thread that writes them as room comes;
// those that no longer find room are dropped and counted, and the count is written where they would have
// stood.
class LogWriter {
 public:
  // Of lines that wait. Warnings and errors find twice as much, so that requests cannot crowd them out.
  static constexpr size_t kRoom = 1 << 20;

  // `fd` is not owned.
  explicit LogWriter(int fd);
  // What the file has not taken by now is lost.
  ~LogWriter();
  LogWriter(const LogWriter&) = delete;
  LogWriter& operator=(const LogWriter&) = delete;

  // `line` ends with a newline. Any thread.
  void Write(LogLevel level, std::string_view line);
  // Waits until no line waits (true), but no longer than `timeout`. Any thread.
  bool Flush(Duration timeout);
  // Lines so far. Any thread.
  int64_t dropped() const { return dropped_.load(std::memory_order_relaxed); }

 private:
  void Run();
  void WriteAll(std::string_view text) const;

  const int fd_;
  std::atomic<int64_t> dropped_{0};
  std::atomic<bool> closing_{false};
  Mutex mutex_;
  CondVar changed_;
  std::string waiting_ ABSL_GUARDED_BY(mutex_);
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;  // the thread has taken lines and not written all of them
  int64_t told_ ABSL_GUARDED_BY(mutex_) = 0;      // of dropped_
  std::thread thread_;                            // last: it uses the others
};

}  // namespace yoio

#endif  // YOIO_SERVER_LOG_WRITER_H_
