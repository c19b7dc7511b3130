// Which requests are exported, once it is known what came of them.
#ifndef YOIO_SERVER_TRACE_REQUEST_TRACER_H_
#define YOIO_SERVER_TRACE_REQUEST_TRACER_H_

#include <utility>

#include "base/clock.h"
#include "engine/flight_recorder.h"
#include "server/call_record.h"
#include "server/trace/request_spans.h"
#include "server/trace/sampler.h"
#include "server/trace/span_maker.h"
#include "server/trace/tracer.h"

namespace yoio {

// Exports the spans of sampled requests, and of others that failed or took long (late-sampled). A request
// that its own client ended has not failed.
class RequestTracer final : public CallObserver {
 public:
  // Late-sampled requests a second; further ones are not exported, so that an outage does not drown the
  // collector.
  static constexpr double kLateRate = 10;
  static constexpr int kSlowestSteps = 10;

  // Requests that take longer than `slow` took long; zero: none does. `recorder` may be null; it and the
  // tracer outlive this.
  RequestTracer(Tracer& tracer, const FlightRecorder* recorder, ModelLabel model, Duration slow)
      : tracer_(tracer), maker_(tracer), recorder_(recorder), model_(std::move(model)), slow_(slow) {}

  void Ended(const CallRecord& record) override;

 private:
  bool IsLate(const CallRecord& record) const;

  Tracer& tracer_;
  const SpanMaker maker_;
  const FlightRecorder* const recorder_;
  const ModelLabel model_;
  const Duration slow_;
  TenantBudget late_budget_{kLateRate};  // of all tenants together
};

}  // namespace yoio

#endif  // YOIO_SERVER_TRACE_REQUEST_TRACER_H_
