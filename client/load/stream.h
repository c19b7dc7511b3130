// One call of Generate at a time, driven by gRPC's threads.
#ifndef YOIO_CLIENT_LOAD_STREAM_H_
#define YOIO_CLIENT_LOAD_STREAM_H_

#include <google/protobuf/arena.h>
#include <grpcpp/alarm.h>
#include <grpcpp/client_context.h>
#include <grpcpp/support/client_callback.h>

#include <array>
#include <atomic>
#include <memory>
#include <optional>

#include "base/mutex.h"
#include "client/load/measurements.h"
#include "client/load/workload.h"
#include "yoio/v1/inference.grpc.pb.h"

namespace yoio {

// When injections happen, and the deadline of all other requests.
struct StreamOptions {
  std::optional<Duration> deadline;
  // Cancelled after a time drawn from 0 to this. Absent: after a number of tokens drawn from 0 to all of them
  // less one, with 0 right after it was sent.
  std::optional<Duration> cancel_within;
  Duration expire_within{};  // the deadline is drawn from 0 to this
  Duration slow_for{};       // of the slow readers half stop once for this, half wait a tenth of it each time
};

// Sends requests one after another and reads their events; used again for the next request when one has
// ended. Owned by a Runner. Start is called by the runner's thread, Cancel by any; callbacks come one at a
// time from gRPC's threads.
class Stream final : public grpc::ClientReadReactor<v1::GenerateResponse> {
 public:
  // Told that a stream has ended and may be started again, from its last callback.
  class Owner {
   public:
    virtual ~Owner() = default;
    virtual void Ended(Stream& stream) = 0;
  };

  // All are not owned and outlive it.
  Stream(const StreamOptions& options, Measurements& measurements, Owner& owner)
      : options_(options), measurements_(measurements), owner_(owner) {}

  // Sends `request`, which was due at `due`. Returns at once; `request` may be changed afterwards.
  void Start(v1::InferenceService::Stub& stub, const v1::GenerateRequest& request, const RequestPlan& plan,
             TimePoint due);

  // Ends the call, if there is one, because the run has ended.
  void Cancel();

 private:
  void OnReadDone(bool ok) override;
  void OnDone(const grpc::Status& status) override;

  // Reads the next event into the arena that held the last one: no message allocates.
  void ReadNext();
  // Notes the tokens of `event_`.
  void Count(TimePoint now);
  void Inject();
  void SetCancelTimer();
  // Reads on after `pause`.
  void PauseFor(Duration pause);

  const StreamOptions& options_;
  Measurements& measurements_;
  Owner& owner_;

  mutable Mutex mutex_;
  // Shared with Cancel, which may still hold it when the call has ended.
  std::shared_ptr<grpc::ClientContext> context_ ABSL_GUARDED_BY(mutex_);
  std::atomic<bool> cut_off_{false};

  grpc::ClientContext* call_ = nullptr;  // `context_` of the call that runs
  RequestPlan plan_;
  RequestOutcome outcome_;
  int64_t inject_at_ = 0;  // tokens after which to cancel or to stop reading
  alignas(8) std::array<char, 2048> block_;
  google::protobuf::Arena arena_{block_.data(), block_.size()};
  v1::GenerateResponse* event_ = nullptr;  // in `arena_`
  std::optional<grpc::Alarm> alarm_;
};

}  // namespace yoio

#endif  // YOIO_CLIENT_LOAD_STREAM_H_
