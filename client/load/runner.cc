#include "client/load/runner.h"

#include <grpcpp/channel.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include <algorithm>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace yoio {
namespace {

constexpr Duration kTick = std::chrono::milliseconds(50);

double CpuSeconds() {
  rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + 1e-6 * static_cast<double>(time.tv_usec);
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

TimePoint WindowEnd(const LoadOptions& options, TimePoint start) {
  if (options.duration == Duration::zero()) return TimePoint::max();
  return start + options.warm_up + options.duration;
}

}  // namespace

Runner::Runner(const LoadChannels& channels, const Workload& workload, LoadOptions options)
    : workload_(workload),
      options_(std::move(options)),
      start_(Clock::now()),
      measurements_(workload.ClassNames(), options_.targets, start_ + options_.warm_up,
                    WindowEnd(options_, start_)),
      request_(options_.request) {
  for (const auto& channel : channels.in_turn) stubs_.push_back(v1::InferenceService::NewStub(channel));
  if (channels.slow_readers) slow_readers_stub_ = v1::InferenceService::NewStub(channels.slow_readers);
  if (options_.rate) arrivals_.emplace(*options_.rate, workload.options().seed);
}

Runner::~Runner() = default;

LoadResult Runner::Run(const Cancellation& cancellation, const OnProgress& on_progress) {
  const double cpu_before = CpuSeconds();
  std::thread sender([this] { SendAll(); });
  AwaitEnd(cancellation, on_progress);
  sender.join();
  return Describe(CpuSeconds() - cpu_before);
}

void Runner::SendAll() {
  prctl(PR_SET_TIMERSLACK, 1);  // wake on time: the default lets the kernel be 50 us late
  int64_t index = 0;
  while (SendNext(index)) ++index;
  MutexLock lock(mutex_);
  sent_all_ = Clock::now();
  changed_.NotifyAll();
}

bool Runner::SendNext(int64_t index) {
  if (options_.requests > 0 && measured_ == options_.requests) return false;
  if (options_.trace_times && index == static_cast<int64_t>(workload_.options().trace.size())) return false;
  const RequestPlan plan = workload_.Plan(index);
  const std::optional<Duration> after = NextDue(plan);
  TimePoint due = start_ + after.value_or(Duration::zero());
  const TimePoint end = WindowEnd(options_, start_);
  if (due >= end) return false;
  Prepare(plan);
  if (!(after ? AwaitTime(due) : AwaitPlace())) return false;
  if (!after) due = Clock::now();
  if (due >= end) return false;
  if (due >= start_ + options_.warm_up) ++measured_;
  TakeStream().Start(StubFor(plan), request_, plan, due);
  return true;
}

std::optional<Duration> Runner::NextDue(const RequestPlan& plan) {
  if (arrivals_) return arrivals_->Next();
  if (options_.trace_times) return workload_.options().trace[plan.index].at;
  return std::nullopt;
}

bool Runner::AwaitTime(TimePoint due) {
  MutexLock lock(mutex_);
  while (!stopped_ && Clock::now() < due) changed_.WaitUntil(mutex_, due);
  return !stopped_;
}

bool Runner::AwaitPlace() {
  const TimePoint end = WindowEnd(options_, start_);
  MutexLock lock(mutex_);
  while (!stopped_ && live_ >= options_.concurrency && Clock::now() < end) changed_.WaitUntil(mutex_, end);
  return !stopped_ && live_ < options_.concurrency;
}

void Runner::Prepare(const RequestPlan& plan) {
  workload_.FillPrompt(plan, request_.mutable_token_ids()->mutable_ids());
  request_.mutable_stop()->set_max_tokens(plan.output_tokens);
  if (plan.priority != v1::PRIORITY_UNSPECIFIED) {
    request_.set_priority(plan.priority);
  } else {
    request_.clear_priority();
  }
}

v1::InferenceService::Stub& Runner::StubFor(const RequestPlan& plan) const {
  if (plan.injection == Injection::kSlowReader && slow_readers_stub_) return *slow_readers_stub_;
  return *stubs_[plan.index % stubs_.size()];
}

Stream& Runner::TakeStream() {
  MutexLock lock(mutex_);
  peak_live_ = std::max(peak_live_, ++live_);
  if (idle_.empty()) {
    Stream::Owner& owner = *this;
    streams_.push_back(std::make_unique<Stream>(options_.stream, measurements_, owner));
    return *streams_.back();
  }
  Stream& stream = *idle_.back();
  idle_.pop_back();
  return stream;
}

void Runner::Ended(Stream& stream) {
  MutexLock lock(mutex_);
  idle_.push_back(&stream);
  --live_;
  last_ended_ = Clock::now();
  // An open loop waits for the clock alone; its sender is left asleep.
  if (live_ == 0 || options_.concurrency > 0) changed_.NotifyAll();
}

void Runner::AwaitEnd(const Cancellation& cancellation, const OnProgress& on_progress) {
  TimePoint next_progress = start_ + std::chrono::seconds(1);
  bool cut_off = false;
  while (true) {
    bool late = false;
    int64_t live = 0;
    {
      MutexLock lock(mutex_);
      if (sent_all_ && live_ == 0) return;
      changed_.WaitUntil(mutex_, Clock::now() + kTick);
      live = live_;
      late = sent_all_ && options_.drain && Clock::now() > *sent_all_ + *options_.drain;
      if (cancellation.cancelled()) {
        stopped_ = true;
        changed_.NotifyAll();
      }
      late = late || (stopped_ && sent_all_);
    }
    if (late && !cut_off) {
      cut_off = true;
      CutOff();
    }
    if (Clock::now() >= next_progress) {
      on_progress(Clock::now() - start_, measurements_.progress(), live);
      next_progress += std::chrono::seconds(1);
    }
  }
}

void Runner::CutOff() {
  std::vector<Stream*> streams;
  {
    MutexLock lock(mutex_);
    for (const auto& stream : streams_) streams.push_back(stream.get());
  }
  for (Stream* stream : streams) stream->Cancel();
}

LoadResult Runner::Describe(double cpu_seconds) const {
  MutexLock lock(mutex_);
  const bool whole = options_.duration > Duration::zero() && !stopped_;
  LoadResult result = measurements_.Result(whole ? WindowEnd(options_, start_) : last_ended_);
  if (options_.rate) {
    result.rate = options_.rate->to;
    result.poisson = options_.rate->poisson;
  }
  result.concurrency = options_.concurrency;
  result.connections = static_cast<int>(stubs_.size());
  result.seed = workload_.options().seed;
  result.peak_live = peak_live_;
  const double elapsed = ToSeconds(Clock::now() - start_);
  result.cpu_cores = elapsed > 0 ? cpu_seconds / elapsed : 0;
  const int64_t messages = measurements_.progress().messages;
  if (messages > 0) result.cpu_micros_per_message = 1e6 * cpu_seconds / static_cast<double>(messages);
  Warn(result);
  return result;
}

void Runner::Warn(LoadResult& result) const {
  const bool open = options_.rate || options_.trace_times;
  constexpr double kLate = 0.01;
  if (open && result.lateness.p99 > kLate) {
    result.warnings.push_back(
        absl::StrFormat("the generator fell behind its own schedule: 1%% of requests were sent %.0f ms or "
                        "more after they were "
                        "due (latencies count from when they were due)",
                        1e3 * result.lateness.p99));
  }
  const int64_t most_calls = int64_t{options_.max_concurrent_streams} * result.connections;
  if (most_calls > 0 && result.peak_live > most_calls) {
    result.warnings.push_back(absl::StrCat(
        "up to ", result.peak_live, " requests at a time over connections that take ", most_calls,
        " together: the rest waited here, unseen by the server; give more --connections"));
  }
  if (result.wrong_length > 0) {
    result.warnings.push_back(absl::StrCat(
        result.wrong_length, " requests ended well with another number of tokens than asked for"));
  }
  if (result.cut_off > 0) {
    result.warnings.push_back(absl::StrCat(
        result.cut_off, " requests were cut off by the end of the run; their latencies are not counted"));
  }
}

}  // namespace yoio
