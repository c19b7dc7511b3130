// Settings of tracing.
#ifndef YOIO_SERVER_TRACE_TRACE_OPTIONS_H_
#define YOIO_SERVER_TRACE_TRACE_OPTIONS_H_

#include <chrono>
#include <cstddef>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "server/trace/sampler.h"
#include "server/trace/span.h"

namespace yoio {

// Where spans go, and how.
struct OtlpOptions {
  std::string target = "localhost:4317";  // HOST:PORT
  bool tls = false;
  std::string ca_file;           // PEM; empty: the authorities that the system trusts
  std::string certificate_file;  // PEM, of this process; empty: none
  std::string key_file;          // its key
  std::vector<std::pair<std::string, std::string>> headers;  // secrets may be among them
  bool gzip = false;
  Duration timeout = std::chrono::seconds(10);  // of one batch, its retries included

  size_t max_queue = 2048;                            // spans
  size_t max_batch = 512;                             // of them, at a time
  Duration schedule_delay = std::chrono::seconds(5);  // the longest that a span waits for others
};

struct SpanLimits {
  size_t links = 128;                                       // of one span
  size_t value_bytes = std::numeric_limits<size_t>::max();  // of a text
};

struct TraceOptions {
  bool enabled = false;
  SamplerOptions sampler;
  int tenant_rate = 10;  // requests a second that one tenant may have traced by its own decision
  OtlpOptions otlp;
  SpanLimits limits;
  std::vector<std::pair<std::string, AttributeValue>> resource;  // service.name and what else is known
};

}  // namespace yoio

#endif  // YOIO_SERVER_TRACE_TRACE_OPTIONS_H_
