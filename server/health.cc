#include "server/health.h"

#include <functional>
#include <optional>
#include <set>
#include <string>

#include "base/mutex.h"
#include "grpc/health/v1/health.grpc.pb.h"

namespace yoio {
namespace {

namespace health = ::grpc::health::v1;
using ServingStatus = health::HealthCheckResponse::ServingStatus;

enum class Probe { kReadiness, kLiveness };

std::optional<Probe> ProbeNamed(const std::string& service) {
  if (service.empty() || service == "yoio.v1.InferenceService") return Probe::kReadiness;
  if (service == "liveness") return Probe::kLiveness;
  return std::nullopt;
}

// One Watch stream: writes the newest status, one write in flight, and skips those that came and went
// meanwhile. Owned by itself; the service must have forgotten it (Watchers::Remove) before it finishes.
class WatchReactor final : public grpc::ServerWriteReactor<health::HealthCheckResponse> {
 public:
  // `on_cancel` runs once, on a gRPC thread, when the stream is to end.
  WatchReactor(std::optional<Probe> probe, std::function<void(WatchReactor*)> on_cancel)
      : probe_(probe), on_cancel_(std::move(on_cancel)) {}

  std::optional<Probe> probe() const { return probe_; }

  void Send(ServingStatus status) {
    MutexLock lock(mutex_);
    wanted_ = status;
    WriteIfIdle();
  }

  void OnWriteDone(bool ok) override {
    MutexLock lock(mutex_);
    writing_ = false;
    if (ok) WriteIfIdle();
  }
  void OnCancel() override { on_cancel_(this); }
  void OnDone() override { delete this; }

 private:
  void WriteIfIdle() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (writing_ || wanted_ == sent_) return;
    writing_ = true;
    sent_ = wanted_;
    message_.set_status(*sent_);
    StartWrite(&message_);
  }

  const std::optional<Probe> probe_;
  const std::function<void(WatchReactor*)> on_cancel_;
  Mutex mutex_;
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  std::optional<ServingStatus> wanted_ ABSL_GUARDED_BY(mutex_);
  std::optional<ServingStatus> sent_ ABSL_GUARDED_BY(mutex_);
  health::HealthCheckResponse message_ ABSL_GUARDED_BY(mutex_);
};

class HealthServiceImpl final : public HealthService, public health::Health::CallbackService {
 public:
  void SetReady(bool ready) override { Set(Probe::kReadiness, ready); }
  void SetAlive(bool alive) override { Set(Probe::kLiveness, alive); }
  grpc::Service& service() override { return *this; }

  void Close() override {
    MutexLock lock(mutex_);
    closed_ = true;
    for (WatchReactor* watcher : watchers_) watcher->Finish(Closing());
    watchers_.clear();
  }

  grpc::ServerUnaryReactor* Check(grpc::CallbackServerContext* context,
                                  const health::HealthCheckRequest* request,
                                  health::HealthCheckResponse* response) override {
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    const std::optional<Probe> probe = ProbeNamed(request->service());
    if (probe) {
      MutexLock lock(mutex_);
      response->set_status(StatusOf(*probe));
    }
    reactor->Finish(probe ? grpc::Status::OK
                          : grpc::Status(grpc::NOT_FOUND,
                                         "service: expected \"\", yoio.v1.InferenceService or liveness"));
    return reactor;
  }

  grpc::ServerWriteReactor<health::HealthCheckResponse>* Watch(
      grpc::CallbackServerContext*, const health::HealthCheckRequest* request) override {
    auto* watcher = new WatchReactor(ProbeNamed(request->service()), [this](WatchReactor* w) { Remove(w); });
    MutexLock lock(mutex_);
    if (closed_) {
      watcher->Finish(Closing());
      return watcher;
    }
    watchers_.insert(watcher);
    watcher->Send(watcher->probe() ? StatusOf(*watcher->probe())
                                   : health::HealthCheckResponse::SERVICE_UNKNOWN);
    return watcher;
  }

 private:
  static grpc::Status Closing() { return {grpc::UNAVAILABLE, "the server is shutting down"}; }

  ServingStatus StatusOf(Probe probe) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const bool good = probe == Probe::kReadiness ? ready_ : alive_;
    return good ? health::HealthCheckResponse::SERVING : health::HealthCheckResponse::NOT_SERVING;
  }

  void Set(Probe probe, bool good) {
    MutexLock lock(mutex_);
    (probe == Probe::kReadiness ? ready_ : alive_) = good;
    for (WatchReactor* watcher : watchers_) {
      if (watcher->probe() == probe) watcher->Send(StatusOf(probe));
    }
  }

  // A watcher that was removed is told nothing more, so that it may finish and delete itself.
  void Remove(WatchReactor* watcher) {
    MutexLock lock(mutex_);
    if (watchers_.erase(watcher) > 0) watcher->Finish(grpc::Status::CANCELLED);
  }

  mutable Mutex mutex_;
  bool ready_ ABSL_GUARDED_BY(mutex_) = false;
  bool alive_ ABSL_GUARDED_BY(mutex_) = true;
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
  std::set<WatchReactor*> watchers_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace

std::unique_ptr<HealthService> MakeHealthService() { return std::make_unique<HealthServiceImpl>(); }

}  // namespace yoio
