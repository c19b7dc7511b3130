// Time, as one pair of names: every duration in this project is a std::chrono duration on the steady clock.
#ifndef YOIO_BASE_CLOCK_H_
#define YOIO_BASE_CLOCK_H_

#include <time.h>

#include <chrono>

namespace yoio {

using Clock = std::chrono::steady_clock;
using TimePoint = Clock::time_point;
using Duration = Clock::duration;

inline double ToSeconds(Duration duration) { return std::chrono::duration<double>(duration).count(); }
inline Duration FromSeconds(double seconds) {
  return std::chrono::duration_cast<Duration>(std::chrono::duration<double>(seconds));
}

// Processor time that the calling thread has had: what another took from it meanwhile is not in it. A system
// call, about 0.2 us.
inline Duration ThreadTime() {
  timespec time{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return std::chrono::seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec);
}

}  // namespace yoio

#endif  // YOIO_BASE_CLOCK_H_
