// What time it was, of moments that were measured on the steady clock.
#ifndef YOIO_SERVER_TRACE_WALL_CLOCK_H_
#define YOIO_SERVER_TRACE_WALL_CLOCK_H_

#include <chrono>
#include <cstdint>

#include "base/clock.h"

namespace yoio {

// One for all spans of a process, so that they lie to each other as their moments do, whatever is done to the
// system's clock meanwhile. Thread-safe.
class WallClock {
 public:
  WallClock() : WallClock(Clock::now(), std::chrono::system_clock::now()) {}
  // `steady` and `system` are the same moment.
  WallClock(TimePoint steady, std::chrono::system_clock::time_point system)
      : offset_(system.time_since_epoch() - steady.time_since_epoch()) {}

  // Nanoseconds since 1970 UTC.
  int64_t UnixNanos(TimePoint time) const {
    return std::chrono::nanoseconds(time.time_since_epoch() + offset_).count();
  }

 private:
  const std::chrono::nanoseconds offset_;
};

}  // namespace yoio

#endif  // YOIO_SERVER_TRACE_WALL_CLOCK_H_
