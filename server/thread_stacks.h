// What every thread of this process is doing.
#ifndef YOIO_SERVER_THREAD_STACKS_H_
#define YOIO_SERVER_THREAD_STACKS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "base/clock.h"

namespace yoio {

// Threads that are in the same place.
struct ThreadStack {
  std::vector<int> threads;       // as the kernel numbers them
  std::vector<uintptr_t> frames;  // return addresses, the innermost first; empty: they did not answer
};

// Interrupts every thread with a signal, and collects where each of them is; waits `patience` at most, so
// that threads that block signals are left out. What a thread is in may return EINTR. Threads beyond 1,024
// and frames beyond 48 are left out. One call at a time; the signal (SIGRTMIN + 6) is taken from its first
// call on.
std::vector<ThreadStack> CaptureThreadStacks(Duration patience);

// The functions of `stack`, as far as they are found until `deadline`; of others the library and where in it.
// Not for signal handlers.
std::vector<std::string> FunctionsOf(const ThreadStack& stack, TimePoint deadline);

}  // namespace yoio

#endif  // YOIO_SERVER_THREAD_STACKS_H_
