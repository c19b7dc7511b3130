// Sends a workload to a server and measures how it answers.
#ifndef YOIO_CLIENT_LOAD_RUNNER_H_
#define YOIO_CLIENT_LOAD_RUNNER_H_

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/mutex.h"
#include "client/cancellation.h"
#include "client/load/arrivals.h"
#include "client/load/measurements.h"
#include "client/load/stream.h"
#include "client/load/workload.h"

namespace yoio {

// How the load is made. An open loop sends when its schedule says so and never waits for answers; a closed
// one sends when an answer has ended.
struct LoadOptions {
  std::optional<RateOptions> rate;  // an open loop
  bool trace_times = false;         // an open loop by the times of the workload's trace, which is sent once
  int concurrency = 0;              // else a closed loop of this many requests at a time

  // The run ends with whichever comes first; zero is none. Both start after the warm-up.
  int64_t requests = 0;
  Duration duration{};
  Duration warm_up{};

  // How long requests may go on after the last one was sent, before they are cut off. Absent: until they end.
  std::optional<Duration> drain;

  // Calls that the server takes at the same time over one connection. Zero: not known.
  int max_concurrent_streams = 0;

  StreamOptions stream;
  Targets targets;
  v1::GenerateRequest request;  // what all requests have, less prompt and output length
};

// The connections of a run.
struct LoadChannels {
  std::vector<std::shared_ptr<grpc::Channel>> in_turn;  // at least one
  std::shared_ptr<grpc::Channel> slow_readers;          // null: theirs are those of the others
};

// One run. Owned by the caller; used once.
class Runner : private Stream::Owner {
 public:
  // `workload` is not owned and outlives it.
  Runner(const LoadChannels& channels, const Workload& workload, LoadOptions options);
  ~Runner() override;

  // Called once a second on the thread that called Run, with the time since the start.
  using OnProgress = std::function<void(Duration, const Measurements::Progress&, int64_t live)>;

  // Blocks until all requests have ended. `cancellation` ends the run early: what runs is cut off.
  LoadResult Run(const Cancellation& cancellation, const OnProgress& on_progress);

 private:
  // The body of the thread that sends.
  void SendAll();
  // Sends one request when it is time. False: the run has ended.
  bool SendNext(int64_t index);
  // When the request is due, from the start. Absent: when an earlier one has ended.
  std::optional<Duration> NextDue(const RequestPlan& plan);
  // Wait until `due`, or until fewer than `concurrency` requests run. False: the run has ended.
  bool AwaitTime(TimePoint due) ABSL_LOCKS_EXCLUDED(mutex_);
  bool AwaitPlace() ABSL_LOCKS_EXCLUDED(mutex_);
  void Prepare(const RequestPlan& plan);
  v1::InferenceService::Stub& StubFor(const RequestPlan& plan) const;
  Stream& TakeStream() ABSL_LOCKS_EXCLUDED(mutex_);
  void Ended(Stream& stream) override;

  // Parts of Run.
  void AwaitEnd(const Cancellation& cancellation, const OnProgress& on_progress);
  void CutOff() ABSL_LOCKS_EXCLUDED(mutex_);
  LoadResult Describe(double cpu_seconds) const;
  void Warn(LoadResult& result) const;

  const Workload& workload_;
  const LoadOptions options_;
  const TimePoint start_;
  Measurements measurements_;
  std::vector<std::unique_ptr<v1::InferenceService::Stub>> stubs_;
  std::unique_ptr<v1::InferenceService::Stub> slow_readers_stub_;  // may be null

  // Of the sending thread.
  std::optional<Arrivals> arrivals_;
  v1::GenerateRequest request_;
  int64_t measured_ = 0;

  mutable Mutex mutex_;
  CondVar changed_;
  std::vector<std::unique_ptr<Stream>> streams_ ABSL_GUARDED_BY(mutex_);
  std::vector<Stream*> idle_ ABSL_GUARDED_BY(mutex_);
  int64_t live_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t peak_live_ ABSL_GUARDED_BY(mutex_) = 0;
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;  // nothing more may be sent
  std::optional<TimePoint> sent_all_ ABSL_GUARDED_BY(mutex_);
  TimePoint last_ended_ ABSL_GUARDED_BY(mutex_) = start_;
};

}  // namespace yoio

#endif  // YOIO_CLIENT_LOAD_RUNNER_H_
