// Sends spans to an OpenTelemetry collector, off the hot path.
#ifndef YOIO_SERVER_TRACE_OTLP_EXPORTER_H_
#define YOIO_SERVER_TRACE_OTLP_EXPORTER_H_

#include <grpcpp/channel.h>
#include <grpcpp/support/status.h>

#include <cstdint>
#include <deque>
#include <memory>
#include <random>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "opentelemetry/proto/collector/trace/v1/trace_service.grpc.pb.h"
#include "server/log.h"
#include "server/trace/span.h"
#include "server/trace/trace_options.h"

namespace yoio {

// What became of spans.
struct ExportCounts {
  int64_t exported = 0;
  int64_t dropped = 0;  // the queue was full, or the process ended
  int64_t failed = 0;   // the collector did not take them, or not in time
};

// A bounded queue and the thread that empties it, a batch at a time, by OTLP over gRPC. A collector that is
// slow, hangs or is not there costs spans, which are counted, and nothing else. Thread-safe.
class OtlpExporter {
 public:
  // `options.otlp.target` need not answer. NOT_FOUND, PERMISSION_DENIED or INVALID_ARGUMENT: a file of TLS
  // cannot be used, and is named with its variable. `log` outlives the exporter.
  static absl::StatusOr<std::unique_ptr<OtlpExporter>> Start(const TraceOptions& options, const Logger& log);
  // Breaks off what is being sent; what has not been sent is dropped.
  ~OtlpExporter();

  // Never blocks: what finds no room is dropped.
  void Enqueue(std::vector<Span> spans);

  // Blocks until all that was enqueued before is sent or given up, or `deadline`: then false.
  bool Flush(TimePoint deadline);

  ExportCounts counts() const;

 private:
  using Service = opentelemetry::proto::collector::trace::v1::TraceService;
  using ExportRequest = opentelemetry::proto::collector::trace::v1::ExportTraceServiceRequest;

  OtlpExporter(const TraceOptions& options, std::shared_ptr<grpc::Channel> channel, const Logger& log);

  void Run();
  // Blocks until there is a batch to send; an empty one: the exporter is being destroyed.
  std::vector<Span> NextBatch();
  // Sends `batch`, in several requests if it is large.
  void Send(const std::vector<Span>& batch);
  // Sends one request, again and again if need be, and counts its spans.
  void SendRequest(const ExportRequest& request, int64_t spans);
  // One attempt. Fills `rejected` on success.
  grpc::Status Attempt(const ExportRequest& request, TimePoint deadline, int64_t& rejected);
  // False when the exporter is being destroyed.
  bool Pause(Duration pause);
  void Count(int64_t exported, int64_t failed);
  // Tells when sending begins to fail, and when it goes well again.
  void LogOutcome(const grpc::Status& status);

  const OtlpOptions options_;
  const SpanLimits limits_;
  const Logger& log_;
  const ExportRequest empty_request_;  // tells of the process, holds no span
  const std::unique_ptr<Service::Stub> stub_;

  mutable Mutex mutex_;
  CondVar work_;
  CondVar sent_;
  std::deque<Span> queue_ ABSL_GUARDED_BY(mutex_);
  TimePoint waiting_since_ ABSL_GUARDED_BY(mutex_){};  // since when there are spans in the queue
  uint64_t enqueued_ ABSL_GUARDED_BY(mutex_) = 0;      // spans, ever
  uint64_t settled_ ABSL_GUARDED_BY(mutex_) = 0;       // of them: sent or given up
  uint64_t flush_to_ ABSL_GUARDED_BY(mutex_) = 0;      // those up to here wait for no others
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  grpc::ClientContext* in_flight_ ABSL_GUARDED_BY(mutex_) = nullptr;
  ExportCounts counts_ ABSL_GUARDED_BY(mutex_);

  // Of the thread alone.
  bool failing_ = false;
  std::minstd_rand random_;

  std::thread thread_;
};

}  // namespace yoio

#endif  // YOIO_SERVER_TRACE_OTLP_EXPORTER_H_
