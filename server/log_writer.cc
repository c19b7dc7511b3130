#include "server/log_writer.h"

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <utility>

namespace yoio {
namespace {

constexpr int kPollMs = 20;

// Writes as much of `text` as the file takes now, and returns how much that was. What can never be written
// counts as written.
size_t WriteWhatFits(int fd, std::string_view text) {
  size_t done = 0;
  while (done < text.size()) {
    pollfd file{.fd = fd, .events = POLLOUT, .revents = 0};
    if (poll(&file, 1, 0) <= 0) break;
    // A pipe that has room takes so much without blocking, and unmixed with what others write.
    const ssize_t written = write(fd, text.data() + done, std::min<size_t>(text.size() - done, PIPE_BUF));
    if (written < 0 && (errno == EAGAIN || errno == EINTR)) break;
    if (written <= 0) return text.size();  // nobody reads it; there is no better place to complain
    done += static_cast<size_t>(written);
  }
  return done;
}

size_t RoomFor(LogLevel level) {
  return level >= LogLevel::kWarning ? 2 * LogWriter::kRoom : LogWriter::kRoom;
}

std::string LineOfDropped(int64_t count) {
  LogLine line(LogLevel::kWarning, "log lines dropped");
  return std::move(line.With("count", count)).Finish();
}

}  // namespace

LogWriter::LogWriter(int fd) : fd_(fd), thread_([this] { Run(); }) {}

LogWriter::~LogWriter() {
  {
    MutexLock lock(mutex_);
    closing_ = true;
    changed_.NotifyAll();
  }
  thread_.join();
}

void LogWriter::Write(LogLevel level, std::string_view line) {
  MutexLock lock(mutex_);
  if (waiting_.empty() && !writing_) line.remove_prefix(WriteWhatFits(fd_, line));
  if (line.empty()) return;
  if (waiting_.size() >= RoomFor(level)) {
    dropped_.fetch_add(1, std::memory_order_relaxed);
    return;
  }
  waiting_.append(line);
  changed_.NotifyAll();
}

bool LogWriter::Flush(Duration timeout) {
  const TimePoint end = Clock::now() + timeout;
  MutexLock lock(mutex_);
  while (!waiting_.empty() || writing_) {
    if (Clock::now() >= end) return false;
    changed_.WaitUntil(mutex_, end);
  }
  return true;
}

void LogWriter::Run() {
  while (true) {
    std::string text;
    {
      MutexLock lock(mutex_);
      writing_ = false;
      changed_.NotifyAll();
      while (waiting_.empty() && !closing_) changed_.Wait(mutex_);
      if (closing_) return;
      text.swap(waiting_);
      const int64_t untold = dropped() - std::exchange(told_, dropped());
      if (untold > 0) text += LineOfDropped(untold);
      writing_ = true;
    }
    WriteAll(text);
  }
}

void LogWriter::WriteAll(std::string_view text) const {
  while (!closing_) {
    text.remove_prefix(WriteWhatFits(fd_, text));
    if (text.empty()) return;
    pollfd file{.fd = fd_, .events = POLLOUT, .revents = 0};
    poll(&file, 1, kPollMs);
  }
}

}  // namespace yoio
