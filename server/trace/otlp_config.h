// OpenTelemetry's standard environment (OTEL_*), as far as it concerns traces.
#ifndef YOIO_SERVER_TRACE_OTLP_CONFIG_H_
#define YOIO_SERVER_TRACE_OTLP_CONFIG_H_

#include <vector>

#include "absl/status/status.h"
#include "server/options.h"
#include "server/trace/trace_options.h"

namespace yoio {

// Fills `options`, tenant_rate excepted, and adds the variables in force to `settings`, what may be secret as
// "set" or "unset". Tracing is off, and nothing is added, unless `environment` names an endpoint or the
// exporter otlp. Of a variable for traces alone and its twin for every signal the former wins; an empty one
// counts as unset. INVALID_ARGUMENT names the variable and says what was expected.
absl::Status ReadTraceEnvironment(const Environment& environment, TraceOptions& options,
                                  std::vector<Setting>& settings);

}  // namespace yoio

#endif  // YOIO_SERVER_TRACE_OTLP_CONFIG_H_
