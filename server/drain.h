// How serving ends without breaking off what runs.
#ifndef YOIO_SERVER_DRAIN_H_
#define YOIO_SERVER_DRAIN_H_

#include <optional>

#include "base/clock.h"
#include "base/mutex.h"
#include "server/call.h"
#include "server/server.h"

namespace yoio {

// How somebody other than a signal asks for a drain. Thread-safe.
class DrainSwitch {
 public:
  // The first call counts; `timeout` is nullopt for the usual one.
  void Ask(std::optional<Duration> timeout);
  bool asked() const;
  // nullopt when nobody has asked, or for the usual timeout.
  std::optional<Duration> timeout() const;

 private:
  mutable Mutex mutex_;
  bool asked_ ABSL_GUARDED_BY(mutex_) = false;
  std::optional<Duration> timeout_ ABSL_GUARDED_BY(mutex_);
};

struct DrainTimes {
  Duration delay;    // calls are still taken
  Duration timeout;  // then calls may go on for so long; those left end UNAVAILABLE, DRAINING
};

// Blocks until all calls have ended and all connections of `data` are closed, or the engine has failed. After
// the delay new calls are refused with UNAVAILABLE, DRAINING; when that has gone on for a second clients are
// told to go elsewhere (GOAWAY) and nobody can connect any more. Where nothing runs, both happen at once.
void Drain(ServingCore& core, DataServer& data, const DrainTimes& times);

// Writes how many calls completed, were cancelled, and failed by which code, and how long the scheduler took.
void LogCallCounts(const ServingCore& core, const Logger& log);

}  // namespace yoio

#endif  // YOIO_SERVER_DRAIN_H_
