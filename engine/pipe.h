// What joins the processes of one engine: messages between the leader, who has the doors and rank 0, and each
// follower.
#ifndef YOIO_ENGINE_PIPE_H_
#define YOIO_ENGINE_PIPE_H_

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/clock.h"

namespace yoio {

// One end of a pipe that carries messages both ways, in order, until it breaks. Thread-safe.
class Pipe {
 public:
  // Breaks it.
  virtual ~Pipe() = default;

  // Queues a message. Never blocks; what is sent into a broken pipe is lost.
  virtual void Send(std::string message) = 0;

  // The oldest message that has not been taken. Blocks until there is one. DEADLINE_EXCEEDED at `deadline`;
  // once all messages are taken, the status that the pipe broke with: that of either end's Break, or
  // UNAVAILABLE when the other process is gone. By one thread at a time.
  virtual absl::StatusOr<std::string> Receive(TimePoint deadline) = 0;

  // Ends the pipe at both ends with `status` (not OK), behind the messages already sent. The first one
  // counts.
  virtual void Break(absl::Status status) = 0;
};

// Where followers come in, at the leader's. Thread-safe.
class Doorway {
 public:
  virtual ~Doorway() = default;

  // The next follower that has come, whoever it says it is. DEADLINE_EXCEEDED at `deadline`.
  virtual absl::StatusOr<std::unique_ptr<Pipe>> Accept(TimePoint deadline) = 0;
};

}  // namespace yoio

#endif  // YOIO_ENGINE_PIPE_H_
