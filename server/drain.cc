#include "server/drain.h"

#include <algorithm>
#include <atomic>
#include <string>
#include <thread>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"

namespace yoio {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr Duration kPoll = milliseconds(5);
// How long calls are refused over connections that stay: a client that waits before it tries again is then
// told to connect to another server, and few calls are on their way at that moment.
constexpr Duration kRefusalTime = seconds(1);
// After the engine has drained, streams have only their last messages to send.
constexpr Duration kFinishGrace = seconds(5);
// Clients that are awake close their connections in less.
constexpr Duration kCloseGrace = milliseconds(200);

// Returns when `done` says so (true) or after `duration` (false).
template <typename Condition>
bool WaitFor(Duration duration, const Condition& done) {
  const TimePoint end = Clock::now() + duration;
  while (!done()) {
    if (Clock::now() >= end) return false;
    std::this_thread::sleep_for(kPoll);
  }
  return true;
}

// Closes the door while the engine drains, and cuts idle connections when no call is left.
void CloseDoor(const ServingCore& core, DataServer& data, const std::atomic<bool>& drained,
               Duration timeout) {
  WaitFor(kRefusalTime, [&] { return drained.load(); });
  std::atomic<bool> closed{false};
  std::thread closing([&] {
    data.Shutdown(timeout + kFinishGrace);
    closed = true;
  });
  while (!drained) std::this_thread::sleep_for(kPoll);
  WaitFor(kFinishGrace, [&] { return closed || core.counters.live == 0; });
  while (!WaitFor(kCloseGrace, [&] { return closed.load(); })) data.Cut();
  closing.join();
}

}  // namespace

void DrainSwitch::Ask(std::optional<Duration> timeout) {
  MutexLock lock(mutex_);
  if (asked_) return;
  asked_ = true;
  timeout_ = timeout;
}

bool DrainSwitch::asked() const {
  MutexLock lock(mutex_);
  return asked_;
}

std::optional<Duration> DrainSwitch::timeout() const {
  MutexLock lock(mutex_);
  return timeout_;
}

void Drain(ServingCore& core, DataServer& data, const DrainTimes& times) {
  if (WaitFor(times.delay, [&] { return !core.engine.health().ok(); })) return;
  std::atomic<bool> drained{false};
  std::thread door([&] { CloseDoor(core, data, drained, times.timeout); });
  const absl::Status status = core.engine.Drain(Clock::now() + times.timeout);
  drained = true;
  if (!status.ok()) {
    core.log.Write(std::move(
        LogLine(LogLevel::kWarning, "drain ended requests").With("message", std::string(status.message()))));
  }
  door.join();
}

void LogCallCounts(const ServingCore& core, const Logger& log) {
  const CallCounters& counters = core.counters;
  const Load load = core.engine.load();
  LogLine line(LogLevel::kInfo, "drained");
  const int64_t cancelled = counters.failed_by_code[grpc::CANCELLED];
  line.With("completed", counters.ok.load())
      .With("cancelled", cancelled)
      .With("failed", counters.failed - cancelled)
      .With("steps", load.steps)
      .With("scheduler_p99_s", FromSeconds(load.scheduler_seconds_p99));
  for (size_t code = 0; code < counters.failed_by_code.size(); ++code) {
    const int64_t count = counters.failed_by_code[code];
    if (count == 0 || code == grpc::CANCELLED) continue;
    const std::string name = absl::StatusCodeToString(static_cast<absl::StatusCode>(code));
    line.With("failed_" + absl::AsciiStrToLower(name), count);
  }
  log.Write(std::move(line));
}

}  // namespace yoio
