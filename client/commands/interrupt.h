// Ctrl-C as an orderly end.
#ifndef YOIO_CLIENT_COMMANDS_INTERRUPT_H_
#define YOIO_CLIENT_COMMANDS_INTERRUPT_H_

#include <signal.h>

#include <thread>

#include "client/cancellation.h"

namespace yoio {

// While it lives, the first SIGINT or SIGTERM cancels every call of `cancellation`, and a second one ends the
// process with code 130. Made on the main thread before any other thread starts, because those inherit the
// blocked signals; owned by a command.
class InterruptCancels {
 public:
  explicit InterruptCancels(Cancellation& cancellation);
  ~InterruptCancels();
  InterruptCancels(const InterruptCancels&) = delete;
  InterruptCancels& operator=(const InterruptCancels&) = delete;

 private:
  void Watch();

  Cancellation& cancellation_;
  sigset_t signals_;
  int signal_fd_;
  int stop_fd_;
  std::thread thread_;
};

}  // namespace yoio

#endif  // YOIO_CLIENT_COMMANDS_INTERRUPT_H_
