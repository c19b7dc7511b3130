#include "client/commands/waiting_line.h"

#include <unistd.h>

#include <cmath>
#include <cstdio>

#include "absl/strings/str_cat.h"
#include "client/commands/report.h"

namespace yoio {

WaitingLine::WaitingLine() : terminal_(isatty(STDERR_FILENO)) {
  thread_ = std::thread([this] { Run(); });
}

WaitingLine::~WaitingLine() { Stop(); }

void WaitingLine::Accepted(int32_t prompt_tokens) {
  MutexLock lock(mutex_);
  what_ = absl::StrCat("reading the prompt, ", Grouped(prompt_tokens), " tokens");
}

void WaitingLine::Progress(const v1::Progress& progress) {
  MutexLock lock(mutex_);
  if (progress.phase() == v1::PHASE_QUEUED) {
    what_ = absl::StrCat("waiting in the queue, ", Grouped(progress.queue_position()), " requests ahead");
  } else if (progress.phase() == v1::PHASE_PREFILL) {
    what_ = absl::StrCat("reading the prompt, ", Grouped(progress.prompt_tokens_done()), " tokens done");
  }
}

void WaitingLine::Stop() {
  {
    MutexLock lock(mutex_);
    stopped_ = true;
    changed_.NotifyAll();
  }
  if (!thread_.joinable()) return;
  thread_.join();
  MutexLock lock(mutex_);
  if (shown_ && terminal_) std::fputs("\r\033[K", stderr);
}

void WaitingLine::Run() {
  MutexLock lock(mutex_);
  for (int second = 1; !stopped_; ++second) {
    const TimePoint next = start_ + std::chrono::seconds(second);
    while (!stopped_ && Clock::now() < next) changed_.WaitUntil(mutex_, next);
    if (stopped_) return;
    std::fputs(Line().c_str(), stderr);
    shown_ = true;
  }
}

std::string WaitingLine::Line() const {
  const std::string text =
      absl::StrCat("... ", what_, ": ", std::floor(ToSeconds(Clock::now() - start_)), " s");
  return terminal_ ? absl::StrCat("\r", text, "\033[K") : absl::StrCat(text, "\n");
}

}  // namespace yoio
