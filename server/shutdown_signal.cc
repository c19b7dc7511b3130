#include "server/shutdown_signal.h"

#include <signal.h>

#include <atomic>
#include <ctime>

namespace yoio {
namespace {

constexpr long kPollNanoseconds = 20'000'000;

// What a signal handler may touch is static and lock-free; the handler counts and does nothing else.
std::atomic<int> signals_received{0};
std::atomic<bool> dump_asked{false};
static_assert(std::atomic<int>::is_always_lock_free && std::atomic<bool>::is_always_lock_free);
int signals_returned = 0;

void CountSignal(int signal) {
  if (signal == SIGUSR1) {
    dump_asked.store(true, std::memory_order_relaxed);
  } else {
    signals_received.fetch_add(1, std::memory_order_relaxed);
  }
}

}  // namespace

void CatchShutdownSignals() {
  struct sigaction action {};
  action.sa_handler = CountSignal;
  action.sa_flags = SA_RESTART;
  sigemptyset(&action.sa_mask);
  sigaction(SIGTERM, &action, nullptr);
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGUSR1, &action, nullptr);
  signal(SIGPIPE, SIG_IGN);
}

bool PollShutdownSignal() {
  const timespec pause{.tv_sec = 0, .tv_nsec = kPollNanoseconds};
  nanosleep(&pause, nullptr);
  if (signals_received.load(std::memory_order_relaxed) == signals_returned) return false;
  ++signals_returned;
  return true;
}

bool TakeDumpSignal() { return dump_asked.exchange(false, std::memory_order_relaxed); }

}  // namespace yoio
