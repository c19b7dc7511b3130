// A collector in this process, over loopback, which does as it is told.
#ifndef YOIO_TESTS_SERVER_TRACE_TEST_COLLECTOR_H_
#define YOIO_TESTS_SERVER_TRACE_TEST_COLLECTOR_H_

#include <grpcpp/grpcpp.h>

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "opentelemetry/proto/collector/trace/v1/trace_service.grpc.pb.h"

namespace yoio {

class TestCollector final : public opentelemetry::proto::collector::trace::v1::TraceService::Service {
 public:
  using Request = opentelemetry::proto::collector::trace::v1::ExportTraceServiceRequest;
  using Response = opentelemetry::proto::collector::trace::v1::ExportTraceServiceResponse;
  // Answers the call of that number, counted from 0.
  using Answer = std::function<grpc::Status(int call, grpc::ServerContext& context, Response& response)>;

  explicit TestCollector(
      Answer answer = [](int, auto&, auto&) { return grpc::Status::OK; }, int port = 0)
      : answer_(std::move(answer)) {
    grpc::ServerBuilder builder;
    builder.AddListeningPort(absl::StrCat("127.0.0.1:", port), grpc::InsecureServerCredentials(), &port_);
    builder.RegisterService(this);
    server_ = builder.BuildAndStart();
  }
  ~TestCollector() override { server_->Shutdown(std::chrono::system_clock::now()); }

  std::string target() const { return absl::StrCat("127.0.0.1:", port_); }
  int port() const { return port_; }

  // What came, each call's.
  std::vector<Request> requests() const {
    MutexLock lock(mutex_);
    return requests_;
  }
  std::vector<std::multimap<std::string, std::string>> metadata() const {
    MutexLock lock(mutex_);
    return metadata_;
  }

  // Blocks until `calls` have come; false when they have not in 20 seconds.
  bool WaitForCalls(size_t calls) {
    const TimePoint deadline = Clock::now() + std::chrono::seconds(20);
    MutexLock lock(mutex_);
    while (requests_.size() < calls && Clock::now() < deadline) came_.WaitUntil(mutex_, deadline);
    return requests_.size() >= calls;
  }

  grpc::Status Export(grpc::ServerContext* context, const Request* request, Response* response) override {
    int call = 0;
    {
      MutexLock lock(mutex_);
      call = static_cast<int>(requests_.size());
      requests_.push_back(*request);
      auto& metadata = metadata_.emplace_back();
      for (const auto& [key, value] : context->client_metadata()) {
        metadata.emplace(std::string(key.data(), key.size()), std::string(value.data(), value.size()));
      }
      came_.NotifyAll();
    }
    return answer_(call, *context, *response);
  }

 private:
  const Answer answer_;
  int port_ = 0;
  mutable Mutex mutex_;
  CondVar came_;
  std::vector<Request> requests_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::multimap<std::string, std::string>> metadata_ ABSL_GUARDED_BY(mutex_);
  std::unique_ptr<grpc::Server> server_;
};

// Names of the spans of `request`, in order.
inline std::vector<std::string> SpanNames(const TestCollector::Request& request) {
  std::vector<std::string> names;
  for (const auto& process : request.resource_spans()) {
    for (const auto& scope : process.scope_spans()) {
      for (const auto& span : scope.spans()) names.push_back(span.name());
    }
  }
  return names;
}

}  // namespace yoio

#endif  // YOIO_TESTS_SERVER_TRACE_TEST_COLLECTOR_H_
