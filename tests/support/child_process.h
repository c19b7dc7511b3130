// A process for tests that kill or stop one.
#ifndef YOIO_TESTS_SUPPORT_CHILD_PROCESS_H_
#define YOIO_TESTS_SUPPORT_CHILD_PROCESS_H_

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "absl/functional/function_ref.h"
#include "base/check.h"

namespace yoio::test {

// Runs `body` in a fork of this process, which has no other thread at that moment; it exits with the body's
// result. Killed, if it still lives, when destroyed.
class ChildProcess {
 public:
  explicit ChildProcess(absl::FunctionRef<int()> body) : pid_(fork()) {
    YOIO_CHECK_GE(pid_, 0);
    if (pid_ == 0) _exit(body());
  }
  ~ChildProcess() {
    if (pid_ < 0) return;
    Signal(SIGKILL);
    Wait();
  }
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;

  void Signal(int signal) { YOIO_CHECK_EQ(kill(pid_, signal), 0); }

  // The exit status; 128 + n when signal n ended it. Once.
  int Wait() {
    int status = 0;
    YOIO_CHECK_EQ(waitpid(pid_, &status, 0), pid_);
    pid_ = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }

 private:
  pid_t pid_;
};

}  // namespace yoio::test

#endif  // YOIO_TESTS_SUPPORT_CHILD_PROCESS_H_
