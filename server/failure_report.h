// What a dying engine leaves behind.
#ifndef YOIO_SERVER_FAILURE_REPORT_H_
#define YOIO_SERVER_FAILURE_REPORT_H_

#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "base/mutex.h"
#include "engine/flight_recorder.h"
#include "engine/step_times.h"
#include "server/log.h"

namespace yoio {

// Writes one record of the first failure: what each rank is doing and which collective it waits in, the ids
// of the requests in the steps under way, and where every thread is. It goes to the log, event "engine
// failing", and to the termination log, there cut to what Kubernetes takes. Thread-safe.
class FailureReport {
 public:
  // `termination_log` is a file, or empty. `log` outlives this.
  FailureReport(std::string termination_log, const Logger& log)
      : termination_log_(std::move(termination_log)), log_(log) {}

  // Failures are reported from now on; before, a start has failed, which says so itself. `recorder` is null
  // where the process has none of its own.
  void Arm(const FlightRecorder* recorder);
  // Until now: the engine is about to be destroyed in good order.
  void Disarm();

  // Takes about half a second at most. Returns when the record is written, whoever writes it.
  void Write(const absl::Status& failure, const std::vector<RankState>& ranks);

 private:
  const std::string termination_log_;
  const Logger& log_;
  Mutex mutex_;
  bool armed_ ABSL_GUARDED_BY(mutex_) = false;
  const FlightRecorder* recorder_ ABSL_GUARDED_BY(mutex_) = nullptr;
};

}  // namespace yoio

#endif  // YOIO_SERVER_FAILURE_REPORT_H_
