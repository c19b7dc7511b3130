// Steady time as a wall clock shows it, for what leaves the process.
#ifndef YOIO_SERVER_WALL_CLOCK_H_
#define YOIO_SERVER_WALL_CLOCK_H_

#include <chrono>
#include <cstdint>

#include "base/clock.h"

namespace yoio {

// Reads both clocks once: all times of one answer go through one of these, so that their differences are the
// steady clock's.
class WallClock {
 public:
  WallClock() : steady_(Clock::now()), wall_(std::chrono::system_clock::now()) {}

  TimePoint now() const { return steady_; }  // when it was read
  int64_t UnixNanos(TimePoint time) const {
    const auto wall = std::chrono::duration_cast<std::chrono::nanoseconds>(wall_.time_since_epoch());
    return (wall + std::chrono::duration_cast<std::chrono::nanoseconds>(time - steady_)).count();
  }

 private:
  TimePoint steady_;
  std::chrono::system_clock::time_point wall_;
};

}  // namespace yoio

#endif  // YOIO_SERVER_WALL_CLOCK_H_
