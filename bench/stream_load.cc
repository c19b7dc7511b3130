#include "bench/stream_load.h"

#include <grpcpp/grpcpp.h>
#include <sys/resource.h>

#include <chrono>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "yoio/v1/inference.grpc.pb.h"

namespace yoio::bench {
namespace {

// Counts down to zero.
class Latch {
 public:
  explicit Latch(int count) : count_(count) {}
  void CountDown() {
    MutexLock lock(mutex_);
    if (--count_ == 0) changed_.NotifyOne();
  }
  void Wait() {
    MutexLock lock(mutex_);
    while (count_ > 0) changed_.Wait(mutex_);
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  int count_ ABSL_GUARDED_BY(mutex_);
};

class Reader final : public grpc::ClientReadReactor<v1::GenerateResponse> {
 public:
  Reader(v1::InferenceService::Stub& stub, const v1::GenerateRequest& request, Latch& done) : done_(done) {
    stub.async()->Generate(&context_, &request, this);
    StartRead(&response_);
    StartCall();
  }
  void OnReadDone(bool ok) override {
    if (!ok) return;
    if (response_.has_delta()) {
      ++messages;
      text_bytes += static_cast<int64_t>(response_.delta().text().size());
    }
    StartRead(&response_);
  }
  void OnDone(const grpc::Status& status) override {
    YOIO_CHECK(status.ok()) << status.error_message();
    done_.CountDown();
  }

  int64_t messages = 0, text_bytes = 0;

 private:
  Latch& done_;
  grpc::ClientContext context_;
  v1::GenerateResponse response_;
};

double Seconds(const timeval& time) { return time.tv_sec + 1e-6 * time.tv_usec; }

double CpuSeconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return Seconds(usage.ru_utime) + Seconds(usage.ru_stime);
}

}  // namespace

Loopback::Loopback(grpc::Service& service, const std::optional<Certificate>& certificate) {
  auto server_side = grpc::InsecureServerCredentials();
  auto client_side = grpc::InsecureChannelCredentials();
  if (certificate) {
    grpc::SslServerCredentialsOptions options;
    options.pem_key_cert_pairs.push_back({certificate->key, certificate->chain});
    server_side = grpc::SslServerCredentials(options);
    grpc::SslCredentialsOptions trusted;
    trusted.pem_root_certs = certificate->chain;
    client_side = grpc::SslCredentials(trusted);
  }
  int port = 0;
  grpc::ServerBuilder builder;
  builder.RegisterService(&service);
  builder.AddListeningPort("127.0.0.1:0", server_side, &port);
  server_ = builder.BuildAndStart();
  YOIO_CHECK(server_ != nullptr && port != 0) << "cannot listen on loopback";
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);  // a connection of its own
  channel_ = grpc::CreateCustomChannel(absl::StrCat("127.0.0.1:", port), client_side, arguments);
  YOIO_CHECK(channel_->WaitForConnected(std::chrono::system_clock::now() + std::chrono::seconds(10)))
      << "no connection over loopback";
}

Loopback::~Loopback() { server_->Shutdown(); }

Cost ReadStreams(const Loopback& loopback, int streams, int max_tokens) {
  v1::InferenceService::Stub stub(loopback.channel());
  v1::GenerateRequest request;
  request.set_text("x");
  request.mutable_stop()->set_max_tokens(max_tokens);
  Latch done(streams);
  const TimePoint start = Clock::now();
  const double cpu = CpuSeconds();
  std::vector<std::unique_ptr<Reader>> readers;
  for (int i = 0; i < streams; ++i) readers.push_back(std::make_unique<Reader>(stub, request, done));
  done.Wait();
  Cost cost{.wall = std::chrono::duration<double>(Clock::now() - start).count(), .cpu = CpuSeconds() - cpu};
  for (const auto& reader : readers) {
    cost.messages += reader->messages;
    cost.text_bytes += reader->text_bytes;
  }
  return cost;
}

}  // namespace yoio::bench
