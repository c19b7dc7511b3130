// Tracing, as the rest of the server sees it.
#ifndef YOIO_SERVER_TRACE_TRACER_H_
#define YOIO_SERVER_TRACE_TRACER_H_

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "base/clock.h"
#include "engine/trace_id.h"
#include "server/log.h"
#include "server/trace/otlp_exporter.h"
#include "server/trace/sampler.h"
#include "server/trace/span.h"
#include "server/trace/trace_context.h"
#include "server/trace/trace_options.h"
#include "server/wall_clock.h"

namespace grpc {
class CallbackServerContext;
}

namespace yoio {

// Gives spans their ids, decides which are exported, and exports them. Disabled, it does nothing and costs
// nothing. Thread-safe.
class Tracer {
 public:
  // Traces nothing.
  Tracer() = default;
  // Errors as OtlpExporter::Start. `log` outlives the tracer.
  static absl::StatusOr<std::unique_ptr<Tracer>> Start(const TraceOptions& options, const Logger& log);

  bool enabled() const { return exporter_ != nullptr; }

  // Ids for a call, in its caller's trace if it has one. Those of a call that is not sampled are good as
  // well: its spans may be wanted once it turns out to be slow. Disabled: an invalid id.
  CallTrace StartCall(const grpc::CallbackServerContext& context, const std::string& tenant);
  CallTrace StartCall(const CallMetadata& metadata, const std::string& tenant);

  // Ids for a span of nobody's request, as that of a step. Disabled: an invalid id.
  TraceId StartTrace();

  // An id for one more span of a trace that has begun. Not for a disabled tracer.
  std::array<uint8_t, 8> NewSpanId();

  int64_t UnixNanos(TimePoint time) const { return clock_.UnixNanos(time); }

  // Takes spans that have ended, whether sampled or not. Never blocks. Disabled: drops them uncounted.
  void Export(std::vector<Span> spans);

  // As OtlpExporter::Flush and counts. Disabled: true, and zeros.
  bool Flush(TimePoint deadline);
  ExportCounts counts() const;

 private:
  explicit Tracer(const TraceOptions& options, std::unique_ptr<OtlpExporter> exporter)
      : sampler_(options.sampler, options.tenant_rate), exporter_(std::move(exporter)) {}

  const WallClock clock_;
  IdSource ids_;
  TraceSampler sampler_{{}, 0};
  const std::unique_ptr<OtlpExporter> exporter_;  // null: disabled
};

}  // namespace yoio

#endif  // YOIO_SERVER_TRACE_TRACER_H_
