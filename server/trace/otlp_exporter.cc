#include "server/trace/otlp_exporter.h"

#include <grpcpp/client_context.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <grpcpp/support/channel_arguments.h>

#include <algorithm>
#include <iterator>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "server/secret_file.h"
#include "server/trace/to_otlp.h"
#include "server/version.h"

namespace yoio {
namespace {

using opentelemetry::proto::collector::trace::v1::ExportTraceServiceRequest;
using opentelemetry::proto::collector::trace::v1::ExportTraceServiceResponse;
using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr size_t kMaxPemBytes = 1 << 20;
// Collectors take messages of 4 MiB unless they are told otherwise.
constexpr size_t kMaxMessageBytes = 3 << 20;
constexpr Duration kFirstPause = milliseconds(500);
constexpr Duration kLongestPause = seconds(5);

absl::StatusOr<std::string> ReadPem(const char* variable, const std::string& path) {
  if (path.empty()) return "";
  absl::StatusOr<std::string> pem = ReadSecretFile(path, kMaxPemBytes);
  if (pem.ok()) return pem;
  return absl::Status(pem.status().code(), absl::StrCat(variable, ": ", pem.status().message()));
}

absl::StatusOr<std::shared_ptr<grpc::ChannelCredentials>> MakeCredentials(const OtlpOptions& options) {
  if (!options.tls) return grpc::InsecureChannelCredentials();
  grpc::SslCredentialsOptions ssl;
  YOIO_ASSIGN_OR_RETURN(ssl.pem_root_certs, ReadPem("OTEL_EXPORTER_OTLP_CERTIFICATE", options.ca_file));
  YOIO_ASSIGN_OR_RETURN(ssl.pem_cert_chain,
                        ReadPem("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", options.certificate_file));
  YOIO_ASSIGN_OR_RETURN(ssl.pem_private_key, ReadPem("OTEL_EXPORTER_OTLP_CLIENT_KEY", options.key_file));
  return grpc::SslCredentials(ssl);
}

std::shared_ptr<grpc::Channel> MakeChannel(const OtlpOptions& options,
                                           const std::shared_ptr<grpc::ChannelCredentials>& credentials) {
  grpc::ChannelArguments arguments;
  arguments.SetUserAgentPrefix(absl::StrCat("OTel-OTLP-Exporter-yoio/", kVersion));
  arguments.SetInt(GRPC_ARG_ENABLE_RETRIES, 0);  // they are made here, as the protocol has them
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 500);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 5000);
  return grpc::CreateCustomChannel(options.target, credentials, arguments);
}

ExportTraceServiceRequest EmptyRequest(const TraceOptions& options) {
  ExportTraceServiceRequest request;
  auto& process = *request.add_resource_spans();
  *process.mutable_resource() = ResourceToOtlp(options);
  auto& scope = *process.add_scope_spans()->mutable_scope();
  scope.set_name("yoio");
  scope.set_version(kVersion);
  return request;
}

// How long the collector asks to be left alone, if it does.
std::optional<Duration> RetryDelay(const grpc::Status& status) {
  google::rpc::Status details;
  if (!details.ParseFromString(status.error_details())) return std::nullopt;
  for (const auto& detail : details.details()) {
    google::rpc::RetryInfo info;
    if (detail.UnpackTo(&info)) {
      return seconds(info.retry_delay().seconds()) + std::chrono::nanoseconds(info.retry_delay().nanos());
    }
  }
  return std::nullopt;
}

// As the protocol has it: a collector that has run out of something says when it will have it again.
bool MayPass(const grpc::Status& status, bool has_retry_delay) {
  switch (status.error_code()) {
    case grpc::CANCELLED:
    case grpc::DEADLINE_EXCEEDED:
    case grpc::ABORTED:
    case grpc::OUT_OF_RANGE:
    case grpc::UNAVAILABLE:
    case grpc::DATA_LOSS:
      return true;
    case grpc::RESOURCE_EXHAUSTED:
      return has_retry_delay;
    default:
      return false;
  }
}

}  // namespace

absl::StatusOr<std::unique_ptr<OtlpExporter>> OtlpExporter::Start(const TraceOptions& options,
                                                                  const Logger& log) {
  YOIO_ASSIGN_OR_RETURN(const auto credentials, MakeCredentials(options.otlp));
  return std::unique_ptr<OtlpExporter>(
      new OtlpExporter(options, MakeChannel(options.otlp, credentials), log));
}

OtlpExporter::OtlpExporter(const TraceOptions& options, std::shared_ptr<grpc::Channel> channel,
                           const Logger& log)
    : options_(options.otlp),
      limits_(options.limits),
      log_(log),
      empty_request_(EmptyRequest(options)),
      stub_(Service::NewStub(channel)),
      random_(std::random_device{}()),
      thread_([this] { Run(); }) {}

OtlpExporter::~OtlpExporter() {
  {
    MutexLock lock(mutex_);
    stopping_ = true;
    if (in_flight_ != nullptr) in_flight_->TryCancel();
    work_.NotifyAll();
  }
  thread_.join();
}

void OtlpExporter::Enqueue(std::vector<Span> spans) {
  MutexLock lock(mutex_);
  const size_t before = queue_.size();
  if (before == 0) waiting_since_ = Clock::now();
  const size_t taken = std::min(spans.size(), options_.max_queue - before);
  std::move(spans.begin(), spans.begin() + static_cast<ptrdiff_t>(taken), std::back_inserter(queue_));
  enqueued_ += taken;
  counts_.dropped += static_cast<int64_t>(spans.size() - taken);
  if (before == 0 || queue_.size() >= options_.max_batch) work_.NotifyOne();
}

bool OtlpExporter::Flush(TimePoint deadline) {
  MutexLock lock(mutex_);
  const uint64_t target = enqueued_;
  flush_to_ = std::max(flush_to_, target);
  work_.NotifyOne();
  while (settled_ < target && Clock::now() < deadline) sent_.WaitUntil(mutex_, deadline);
  return settled_ >= target;
}

ExportCounts OtlpExporter::counts() const {
  MutexLock lock(mutex_);
  return counts_;
}

void OtlpExporter::Run() {
  while (true) {
    const std::vector<Span> batch = NextBatch();
    if (batch.empty()) return;
    Send(batch);
    MutexLock lock(mutex_);
    settled_ += batch.size();
    sent_.NotifyAll();
  }
}

std::vector<Span> OtlpExporter::NextBatch() {
  MutexLock lock(mutex_);
  while (!stopping_ && queue_.size() < options_.max_batch) {
    if (queue_.empty()) {
      work_.Wait(mutex_);
      continue;
    }
    const TimePoint due = waiting_since_ + options_.schedule_delay;
    if (settled_ < flush_to_ || Clock::now() >= due) break;
    work_.WaitUntil(mutex_, due);
  }
  if (stopping_) {
    counts_.dropped += static_cast<int64_t>(queue_.size());
    queue_.clear();
  }
  const auto end = queue_.begin() + static_cast<ptrdiff_t>(std::min(queue_.size(), options_.max_batch));
  std::vector<Span> batch(std::make_move_iterator(queue_.begin()), std::make_move_iterator(end));
  queue_.erase(queue_.begin(), end);
  waiting_since_ = Clock::now();
  return batch;
}

void OtlpExporter::Send(const std::vector<Span>& batch) {
  ExportRequest request = empty_request_;
  auto& spans = *request.mutable_resource_spans(0)->mutable_scope_spans(0)->mutable_spans();
  size_t bytes = 0;
  for (const Span& span : batch) {
    opentelemetry::proto::trace::v1::Span message;
    ToOtlp(span, limits_, message);
    const size_t more = message.ByteSizeLong();
    if (bytes + more > kMaxMessageBytes && !spans.empty()) {
      SendRequest(request, spans.size());
      spans.Clear();
      bytes = 0;
    }
    bytes += more;
    *spans.Add() = std::move(message);
  }
  SendRequest(request, spans.size());
}

void OtlpExporter::SendRequest(const ExportRequest& request, int64_t spans) {
  const TimePoint deadline = Clock::now() + options_.timeout;
  Duration backoff = kFirstPause;
  while (true) {
    int64_t rejected = 0;
    const grpc::Status status = Attempt(request, deadline, rejected);
    LogOutcome(status);
    if (status.ok()) return Count(spans - rejected, rejected);
    const std::optional<Duration> asked = RetryDelay(status);
    // Up to twice the pause, so that servers which failed together do not come back together.
    const Duration pause =
        asked.value_or(backoff + backoff * std::uniform_int_distribution<>(0, 100)(random_) / 100);
    if (!MayPass(status, asked.has_value()) || Clock::now() + pause >= deadline || !Pause(pause)) {
      return Count(0, spans);
    }
    backoff = std::min(2 * backoff, kLongestPause);
  }
}

grpc::Status OtlpExporter::Attempt(const ExportRequest& request, TimePoint deadline, int64_t& rejected) {
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + (deadline - Clock::now()));
  if (options_.gzip) context.set_compression_algorithm(GRPC_COMPRESS_GZIP);
  for (const auto& [key, value] : options_.headers) context.AddMetadata(key, value);
  {
    MutexLock lock(mutex_);
    if (stopping_) return {grpc::ABORTED, "the process ends"};
    in_flight_ = &context;
  }
  ExportTraceServiceResponse response;
  const grpc::Status status = stub_->Export(&context, request, &response);
  MutexLock lock(mutex_);
  in_flight_ = nullptr;
  rejected = response.partial_success().rejected_spans();
  return status;
}

bool OtlpExporter::Pause(Duration pause) {
  const TimePoint end = Clock::now() + pause;
  MutexLock lock(mutex_);
  while (!stopping_ && Clock::now() < end) work_.WaitUntil(mutex_, end);
  return !stopping_;
}

void OtlpExporter::Count(int64_t exported, int64_t failed) {
  MutexLock lock(mutex_);
  counts_.exported += exported;
  counts_.failed += failed;
}

void OtlpExporter::LogOutcome(const grpc::Status& status) {
  if (status.ok() != failing_) return;
  failing_ = !status.ok();
  if (!failing_) return log_.Write(LogLine(LogLevel::kInfo, "spans are exported again"));
  log_.Write(std::move(
      LogLine(LogLevel::kWarning, "spans are not exported")
          .With("code", absl::StatusCodeToString(static_cast<absl::StatusCode>(status.error_code())))
          .With("collector", options_.target)));
}

}  // namespace yoio
