// What the operating system says of this process.
#ifndef YOIO_SERVER_METRICS_PROCESS_METRICS_H_
#define YOIO_SERVER_METRICS_PROCESS_METRICS_H_

#include "server/metrics/exposition.h"

namespace yoio {

class ProcessMetrics {
 public:
  ProcessMetrics();

  // Adds the families process_*. Thread-safe.
  void Write(Exposition& exposition) const;

 private:
  const double start_seconds_;  // since the epoch; read once, so that it never changes
};

}  // namespace yoio

#endif  // YOIO_SERVER_METRICS_PROCESS_METRICS_H_
