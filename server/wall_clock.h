// What time it was, of moments that were measured on the steady clock.
#ifndef YOIO_SERVER_WALL_CLOCK_H_
#define YOIO_SERVER_WALL_CLOCK_H_

#include <chrono>
#include <cstdint>

#include "base/clock.h"

namespace yoio {

// Reads both clocks once: all times of one answer, or of all spans of a process, go through one of these, so
// that they lie to each other as their moments do, whatever is done to the system's clock meanwhile.
// Thread-safe.
class WallClock {
 public:
  WallClock() : WallClock(Clock::now(), std::chrono::system_clock::now()) {}
  // `steady` and `system` are the same moment.
  WallClock(TimePoint steady, std::chrono::system_clock::time_point system)
      : steady_(steady), offset_(system.time_since_epoch() - steady.time_since_epoch()) {}

  TimePoint now() const { return steady_; }  // when the clocks were read
  // Nanoseconds since 1970 UTC.
  int64_t UnixNanos(TimePoint time) const {
    return std::chrono::nanoseconds(time.time_since_epoch() + offset_).count();
  }

 private:
  TimePoint steady_;
  std::chrono::nanoseconds offset_;
};

}  // namespace yoio

#endif  // YOIO_SERVER_WALL_CLOCK_H_
