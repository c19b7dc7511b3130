#include "server/trace/tracer.h"

#include <grpcpp/server_context.h>

#include <optional>
#include <utility>

#include "base/status.h"

namespace yoio {

absl::StatusOr<std::unique_ptr<Tracer>> Tracer::Start(const TraceOptions& options, const Logger& log) {
  std::unique_ptr<OtlpExporter> exporter;
  if (options.enabled) {
    YOIO_ASSIGN_OR_RETURN(exporter, OtlpExporter::Start(options, log));
  }
  return std::unique_ptr<Tracer>(new Tracer(options, std::move(exporter)));
}

CallTrace Tracer::StartCall(const grpc::CallbackServerContext& context, const std::string& tenant) {
  return enabled() ? StartCall(context.client_metadata(), tenant) : CallTrace{};
}

CallTrace Tracer::StartCall(const CallMetadata& metadata, const std::string& tenant) {
  if (!enabled()) return {};
  CallTrace call;
  call.id = ids_.NewTrace();
  std::optional<bool> sampled;
  if (std::optional<TraceParent> parent = ReadTraceParent(metadata)) {
    call.id.trace = parent->id.trace;
    call.parent_span = parent->id.span;
    call.trace_state = std::move(parent->trace_state);
    sampled = parent->id.sampled;
  }
  call.id.sampled = sampler_.Sample(call.id, sampled, tenant);
  return call;
}

TraceId Tracer::StartTrace() {
  if (!enabled()) return {};
  TraceId id = ids_.NewTrace();
  id.sampled = sampler_.SampleRoot(id);
  return id;
}

std::array<uint8_t, 8> Tracer::NewSpanId() { return ids_.NewSpan(); }

void Tracer::Export(std::vector<Span> spans) {
  if (enabled()) exporter_->Enqueue(std::move(spans));
}

bool Tracer::Flush(TimePoint deadline) { return !enabled() || exporter_->Flush(deadline); }

ExportCounts Tracer::counts() const { return enabled() ? exporter_->counts() : ExportCounts{}; }

}  // namespace yoio
