#include "client/commands/interrupt.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/check.h"
#include "client/commands/command.h"

namespace yoio {

InterruptCancels::InterruptCancels(Cancellation& cancellation) : cancellation_(cancellation) {
  sigemptyset(&signals_);
  sigaddset(&signals_, SIGINT);
  sigaddset(&signals_, SIGTERM);
  YOIO_CHECK_EQ(pthread_sigmask(SIG_BLOCK, &signals_, nullptr), 0);
  signal_fd_ = signalfd(-1, &signals_, SFD_CLOEXEC);
  stop_fd_ = eventfd(0, EFD_CLOEXEC);
  YOIO_CHECK_GE(signal_fd_, 0);
  YOIO_CHECK_GE(stop_fd_, 0);
  thread_ = std::thread([this] { Watch(); });
}

InterruptCancels::~InterruptCancels() {
  const eventfd_t stop = 1;
  YOIO_CHECK_EQ(eventfd_write(stop_fd_, stop), 0);
  thread_.join();
  close(stop_fd_);
  close(signal_fd_);
  pthread_sigmask(SIG_UNBLOCK, &signals_, nullptr);
}

void InterruptCancels::Watch() {
  pollfd fds[2] = {{signal_fd_, POLLIN, 0}, {stop_fd_, POLLIN, 0}};
  while (true) {
    if (poll(fds, 2, -1) < 0) continue;
    if (fds[1].revents != 0) return;
    signalfd_siginfo info;
    if (read(signal_fd_, &info, sizeof(info)) != sizeof(info)) continue;
    if (cancellation_.cancelled()) _exit(kInterrupted);
    cancellation_.Cancel();
  }
}

}  // namespace yoio
