// Says once a second that a request is still waiting for its first token.
#ifndef YOIO_CLIENT_COMMANDS_WAITING_LINE_H_
#define YOIO_CLIENT_COMMANDS_WAITING_LINE_H_

#include <cstdint>
#include <string>
#include <thread>

#include "base/clock.h"
#include "base/mutex.h"
#include "yoio/v1/event.pb.h"

namespace yoio {

// Writes to standard error from a thread of its own: one line that renews itself on a terminal, a line a
// second elsewhere. Stop before anything else is written there. Owned by one command.
class WaitingLine {
 public:
  WaitingLine();
  ~WaitingLine();

  // What is known so far.
  void Accepted(int32_t prompt_tokens);
  void Progress(const v1::Progress& progress);

  // Ends it and cleans the line. Further calls do nothing.
  void Stop();

 private:
  void Run();
  std::string Line() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const TimePoint start_ = Clock::now();
  const bool terminal_;
  mutable Mutex mutex_;
  CondVar changed_;
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
  bool shown_ ABSL_GUARDED_BY(mutex_) = false;
  std::string what_ ABSL_GUARDED_BY(mutex_) = "sending the prompt";
  std::thread thread_;
};

}  // namespace yoio

#endif  // YOIO_CLIENT_COMMANDS_WAITING_LINE_H_
