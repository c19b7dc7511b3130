// What other threads tell the engine thread.
#ifndef YOIO_ENGINE_MAILBOX_H_
#define YOIO_ENGINE_MAILBOX_H_

#include <memory>
#include <utility>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "engine/answer.h"
#include "engine/engine.h"
#include "engine/live_request.h"

namespace yoio {

struct SubmitCommand {
  std::shared_ptr<LiveRequest> live;
};
// A stop string ended a choice.
struct StopCommand {
  std::weak_ptr<LiveRequest> live;
  int32_t choice;
};
struct CancelCommand {
  std::shared_ptr<LiveRequest> live;
  absl::Status reason;
};
struct CancelAllCommand {
  absl::Status reason;
};
// A rank of this process or another has failed: no step will end any more.
struct FailureCommand {
  absl::Status reason;
};
// Somebody asks what is going on.
struct DumpCommand {
  int32_t max_requests;
  std::shared_ptr<Answer<EngineState>> answer;
};
using Command =
    std::variant<SubmitCommand, StopCommand, CancelCommand, CancelAllCommand, FailureCommand, DumpCommand>;

// Posting never blocks and never fails: for a live request there is at most one submit, one stop a choice and
// one cancel for every call that asks for it, and the number of live requests is capped. Who asks what is
// going on waits for the answer. Thread-safe; Take belongs to the engine.
class Mailbox {
 public:
  void Post(Command command) {
    MutexLock lock(mutex_);
    commands_.push_back(std::move(command));
    changed_.NotifyOne();
  }

  // Everything posted since the last call, in order, swapped into `commands`. Never blocks.
  void Take(std::vector<Command>& commands) {
    commands.clear();
    MutexLock lock(mutex_);
    std::swap(commands, commands_);
  }

  // Blocks until something was posted, the mailbox was closed, or `deadline`.
  void WaitUntil(TimePoint deadline) {
    MutexLock lock(mutex_);
    while (commands_.empty() && !closed_ && Clock::now() < deadline) changed_.WaitUntil(mutex_, deadline);
  }

  void Close() {
    MutexLock lock(mutex_);
    closed_ = true;
    changed_.NotifyOne();
  }

  bool closed() {
    MutexLock lock(mutex_);
    return closed_;
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  std::vector<Command> commands_ ABSL_GUARDED_BY(mutex_);
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace yoio

#endif  // YOIO_ENGINE_MAILBOX_H_
