// What being watched costs a request that is not sampled, on the threads of gRPC.
//
//   trace_bench [--json FILE]
//
//   trace-unsampled  its part in tracing: its ids and the decision at its beginning, and the look at its
//                    record at its end. `alone` brings no parent, `child` one that is not sampled. The
//                    floor is what may be spent on it.
//   metrics          what its record adds to counters and histograms at its end
#include <grpcpp/support/string_ref.h>

#include <chrono>
#include <string>

#include "CLI/CLI.hpp"
#include "base/check.h"
#include "bench/measure.h"
#include "bench/report.h"
#include "server/metrics/call_metrics.h"
#include "server/trace/request_tracer.h"
#include "server/trace/tracer.h"

namespace yoio::bench {
namespace {

constexpr double kAllowedNanoseconds = 50;
constexpr int kRequests = 1000;  // of a sample: so few that the machine seldom interrupts it

double NanosecondsOf(Tracer& tracer, const CallMetadata& metadata) {
  RequestTracer observer(tracer, nullptr, {.name = "bench", .revision = "bench"}, std::chrono::seconds(30));
  const std::string tenant = "default";
  CallRecord record;
  record.arrival = record.ended = Clock::now();
  const double seconds = MedianSeconds([&] {
    for (int i = 0; i < kRequests; ++i) {
      record.trace = tracer.StartCall(metadata, tenant).id;
      observer.Ended(record);
    }
  });
  YOIO_CHECK(!record.trace.sampled) << "it was sampled";
  return 1e9 * seconds / kRequests;
}

double NanosecondsOfMetrics() {
  CallMetrics metrics;
  CallRecord record;
  record.accepted = true;
  record.arrival = Clock::now();
  record.ended = record.arrival + std::chrono::seconds(2);
  record.finish_reason = FinishReason::kLength;
  SummaryEvent& summary = record.summary.emplace();
  summary.usage = {.prompt_tokens = 9000, .completion_tokens = 100};
  summary.timing.queue = summary.timing.prefill = summary.timing.decode = std::chrono::milliseconds(500);
  summary.timing.time_to_first_token = std::chrono::seconds(1);
  const double seconds = MedianSeconds([&] {
    for (int i = 0; i < kRequests; ++i) metrics.Ended(record);
  });
  return 1e9 * seconds / kRequests;
}

int Main(int argc, char** argv) {
  std::string json;
  CLI::App app("What being watched costs a request that is not sampled.");
  app.add_option("--json", json, "Write the results to this file");
  CLI11_PARSE(app, argc, argv);

  const Logger log([](LogLevel, std::string_view) {});
  TraceOptions options;
  options.enabled = true;
  options.sampler.ratio = 0;
  auto tracer = Tracer::Start(options, log);
  YOIO_CHECK(tracer.ok()) << tracer.status().ToString();
  const CallMetadata alone = {{"user-agent", "grpc-c++/1.51.1"}, {"authorization", "Bearer key"}};
  CallMetadata child = alone;
  child.emplace("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00");
  Report report(ProcessorName(1), argc, argv);
  const auto add = [&](const char* name, const CallMetadata& metadata) {
    report.Add({.name = name,
                .value = NanosecondsOf(**tracer, metadata),
                .unit = "ns",
                .floor = kAllowedNanoseconds,
                .is_cost = true});
  };
  add("trace-unsampled/alone", alone);
  add("trace-unsampled/child", child);
  report.Add({.name = "metrics", .value = NanosecondsOfMetrics(), .unit = "ns", .is_cost = true});
  return report.Write(json) ? 0 : 1;
}

}  // namespace
}  // namespace yoio::bench

int main(int argc, char** argv) { return yoio::bench::Main(argc, argv); }
