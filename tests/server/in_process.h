// A data server over a scripted engine, and a client of it, in one process over loopback.
#ifndef YOIO_TESTS_SERVER_IN_PROCESS_H_
#define YOIO_TESTS_SERVER_IN_PROCESS_H_

#include <grpcpp/grpcpp.h>

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/mutex.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "server/server.h"
#include "tests/server/scripted_engine.h"
#include "yoio/v1/inference.grpc.pb.h"

namespace yoio {

// Collects log lines. Thread-safe.
class LogCapture {
 public:
  LogCapture()
      : logger([this](LogLevel, std::string_view line) {
          MutexLock lock(mutex_);
          text_.append(line);
        }) {}
  std::string text() const {
    MutexLock lock(mutex_);
    return text_;
  }

 private:
  mutable Mutex mutex_;
  std::string text_ ABSL_GUARDED_BY(mutex_);

 public:
  Logger logger;
};

inline google::rpc::ErrorInfo ErrorInfoOf(const grpc::Status& status) {
  google::rpc::Status details;
  google::rpc::ErrorInfo info;
  if (details.ParseFromString(status.error_details()) && details.details_size() > 0) {
    details.details(0).UnpackTo(&info);
  }
  return info;
}

struct InProcess {
  explicit InProcess(bool reflection = false, size_t max_request_bytes = 1 << 20) {
    auto started = DataServer::Start(core, {.listen = {.host = "127.0.0.1", .port = 0},
                                            .reflection = reflection,
                                            .max_request_bytes = max_request_bytes});
    if (!started.ok()) std::abort();
    server = *std::move(started);
    channel = grpc::CreateChannel(server->address().ToString(), grpc::InsecureChannelCredentials());
    stub = v1::InferenceService::NewStub(channel);
  }

  LogCapture log;
  ScriptedEngine engine;
  ServingCore core{.engine = engine,
                   .model = {.info = &engine.model(), .names = {"tiny"}},
                   .stall_timeout = std::chrono::seconds(60),
                   .log = log.logger};
  std::unique_ptr<DataServer> server;
  std::shared_ptr<grpc::Channel> channel;
  std::unique_ptr<v1::InferenceService::Stub> stub;
};

}  // namespace yoio

#endif  // YOIO_TESTS_SERVER_IN_PROCESS_H_
