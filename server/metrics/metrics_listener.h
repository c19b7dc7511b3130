// Metrics over HTTP, for Prometheus.
#ifndef YOIO_SERVER_METRICS_METRICS_LISTENER_H_
#define YOIO_SERVER_METRICS_METRICS_LISTENER_H_

#include <memory>

#include "absl/status/statusor.h"
#include "server/address.h"
#include "server/metrics/server_metrics.h"

struct mg_connection;
struct mg_context;

namespace yoio {

// Answers GET and HEAD of /metrics and nothing else, in plaintext, from Start to destruction. Clients that
// are slow to ask or to read hold up others that scrape, for some seconds, and nobody else.
class MetricsListener {
 public:
  // Errors as CheckCanBind (server/address.h). `metrics` outlives the listener.
  static absl::StatusOr<std::unique_ptr<MetricsListener>> Start(const Address& listen,
                                                                const ServerMetrics& metrics);
  ~MetricsListener();

  // The address in use, with the port that port 0 became.
  const Address& address() const { return address_; }

 private:
  MetricsListener(const Address& listen, const ServerMetrics& metrics)
      : address_(listen), metrics_(metrics) {}
  void Stop() const;
  // Returns the HTTP status that was sent.
  int Answer(mg_connection* connection) const;

  Address address_;
  const ServerMetrics& metrics_;
  mg_context* context_ = nullptr;  // null: it could not be started
};

}  // namespace yoio

#endif  // YOIO_SERVER_METRICS_METRICS_LISTENER_H_
