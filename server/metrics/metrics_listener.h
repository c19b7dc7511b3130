// Metrics over HTTP, for Prometheus.
#ifndef YOIO_SERVER_METRICS_METRICS_LISTENER_H_
#define YOIO_SERVER_METRICS_METRICS_LISTENER_H_

#include <memory>

#include "absl/status/statusor.h"
#include "server/address.h"
#include "server/metrics/server_metrics.h"

namespace yoio {

// Answers GET and HEAD of /metrics and nothing else, in plaintext, on a thread of its own, from Start to
// destruction. Clients that are slow to ask or to read are cut off after a second, and hold up nobody.
class MetricsListener {
 public:
  // Errors as CheckCanBind (server/address.h). `metrics` outlives the listener.
  static absl::StatusOr<std::unique_ptr<MetricsListener>> Start(const Address& listen,
                                                                const ServerMetrics& metrics);
  ~MetricsListener();

  // The address in use, with the port that port 0 became.
  const Address& address() const { return address_; }

 private:
  class Server;
  MetricsListener(Address address, std::unique_ptr<Server> server);

  const Address address_;
  const std::unique_ptr<Server> server_;
};

}  // namespace yoio

#endif  // YOIO_SERVER_METRICS_METRICS_LISTENER_H_
