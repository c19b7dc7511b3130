#include "client/commands/traces.h"

namespace yoio {
namespace {

// Whether `next` goes on with the steps of `trace`: another request may have had the same id.
bool Continues(const v1::RequestTrace& trace, const v1::RequestTrace& next) {
  return trace.request_id() == next.request_id() && next.steps_size() > 0 &&
         (!next.has_arrival() || (trace.arrival().seconds() == next.arrival().seconds() &&
                                  trace.arrival().nanos() == next.arrival().nanos()));
}

}  // namespace

absl::StatusOr<std::vector<v1::RequestTrace>> FetchTraces(AdminClient& client,
                                                          const v1::GetTracesRequest& request,
                                                          const CallOptions& options) {
  std::vector<v1::RequestTrace> traces;
  const auto on_trace = [&](const v1::GetTracesResponse& response) {
    const v1::RequestTrace& trace = response.trace();
    if (!traces.empty() && Continues(traces.back(), trace)) {
      traces.back().mutable_steps()->MergeFrom(trace.steps());
    } else {
      traces.push_back(trace);
    }
    return true;
  };
  const absl::Status status = client.GetTraces(request, on_trace, options);
  if (!status.ok()) return status;
  return traces;
}

}  // namespace yoio
