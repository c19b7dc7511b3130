#include "server/failure_report.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "nlohmann/json.hpp"
#include "server/rank_json.h"
#include "server/request_names.h"
#include "server/thread_stacks.h"

namespace yoio {
namespace {

using Json = nlohmann::ordered_json;

constexpr Duration kStackPatience = std::chrono::milliseconds(200);
constexpr Duration kSymbolPatience = std::chrono::milliseconds(300);
// Kubernetes takes 4,096 bytes of a termination message.
constexpr size_t kTerminationBytes = 4095;
constexpr int64_t kStepsUnderWay = 8;  // more than a pipeline is deep

struct NamedStack {
  std::vector<int> threads;
  std::vector<std::string> functions;
  int64_t ours = 0;  // functions of this project
};

struct Evidence {
  std::string message;
  int64_t step = -1;
  std::vector<RankState> ranks;
  std::vector<std::string> requests;
  std::vector<NamedStack> stacks;  // those that are deepest in this project's code first
};

// How much of the evidence is told.
struct Extent {
  static constexpr size_t kAll = std::numeric_limits<size_t>::max();
  size_t frames = kAll;
  size_t stacks = kAll;
  size_t requests = kAll;
  size_t ranks = kAll;
  size_t message = kAll;
};

// Members of the steps that have not ended, or else of the last one.
std::vector<std::string> RequestsUnderWay(const FlightRecorder& recorder) {
  const int64_t last = recorder.last_step();
  RequestNames names(recorder);
  std::vector<std::string> ids;
  for (const StepRecord& step : recorder.Steps(std::max<int64_t>(0, last - kStepsUnderWay), last)) {
    if (step.ended && step.step != last) continue;
    for (const StepMember& member : step.members) ids.push_back(names.Of(member.request));
  }
  std::sort(ids.begin(), ids.end());
  ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
  return ids;
}

std::vector<NamedStack> Name(const std::vector<ThreadStack>& stacks) {
  const TimePoint deadline = Clock::now() + kSymbolPatience;
  std::vector<NamedStack> named;
  for (const ThreadStack& stack : stacks) {
    NamedStack& added = named.emplace_back(NamedStack{stack.threads, FunctionsOf(stack, deadline)});
    added.ours = std::count_if(added.functions.begin(), added.functions.end(),
                               [](const std::string& name) { return absl::StrContains(name, "yoio::"); });
  }
  std::stable_sort(named.begin(), named.end(),
                   [](const NamedStack& a, const NamedStack& b) { return a.ours > b.ours; });
  return named;
}

Json ToJson(const NamedStack& stack, size_t frames) {
  const size_t count = std::min(frames, stack.functions.size());
  return {{"threads", stack.threads},
          {"functions", std::vector<std::string>(stack.functions.begin(), stack.functions.begin() + count)}};
}

// One line. Of each list the first are told, and how many are left out.
LogLine Tell(const Evidence& evidence, const Extent& extent) {
  LogLine line(LogLevel::kError, "engine failing");
  line.With("message", evidence.message.substr(0, extent.message));
  if (evidence.step >= 0) line.With("step", evidence.step);
  const auto add = [&line](const char* key, const auto& list, size_t most, const auto& convert) {
    Json json = Json::array();
    const size_t count = std::min(most, list.size());
    for (size_t i = 0; i < count; ++i) json.push_back(convert(list[i]));
    line.WithJson(key, json.dump(-1, ' ', false, Json::error_handler_t::replace));
    if (count < list.size()) {
      line.With(std::string(key) + "_left_out", static_cast<int64_t>(list.size() - count));
    }
  };
  add("ranks", evidence.ranks, extent.ranks, [](const RankState& rank) { return ToJson(rank); });
  add("requests", evidence.requests, extent.requests, [](const std::string& id) { return id; });
  add("stacks", evidence.stacks, extent.stacks,
      [&](const NamedStack& stack) { return ToJson(stack, extent.frames); });
  return line;
}

// As much as fits: outer frames go first, then stacks, then requests, then ranks.
std::string TellIn(size_t bytes, const Evidence& evidence) {
  Extent extent{.frames = 16,
                .stacks = evidence.stacks.size(),
                .requests = evidence.requests.size(),
                .ranks = evidence.ranks.size(),
                .message = 1024};
  for (;;) {
    std::string line = Tell(evidence, extent).Finish();
    if (line.size() <= bytes) return line;
    if (extent.frames > 8) {
      extent.frames -= 4;
    } else if (extent.stacks > 0) {
      --extent.stacks;
    } else if (extent.requests > 0) {
      extent.requests /= 2;
    } else if (extent.ranks > 0) {
      extent.ranks /= 2;
    } else {
      extent.message /= 2;
    }
  }
}

// Written in place: the file may be one that Kubernetes has mounted.
void WriteTerminationLog(const std::string& path, std::string_view text, const Logger& log) {
  const int file = open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  const bool written =
      file >= 0 && write(file, text.data(), text.size()) == static_cast<ssize_t>(text.size());
  if (file >= 0) close(file);
  if (written) return;
  log.Write(std::move(LogLine(LogLevel::kWarning, "termination log")
                          .With("file", path)
                          .With("message", "it cannot be written")));
}

}  // namespace

void FailureReport::Arm(const FlightRecorder* recorder) {
  MutexLock lock(mutex_);
  armed_ = true;
  recorder_ = recorder;
}

void FailureReport::Disarm() {
  MutexLock lock(mutex_);
  armed_ = false;
}

void FailureReport::Write(const absl::Status& failure, const std::vector<RankState>& ranks) {
  MutexLock lock(mutex_);
  if (!std::exchange(armed_, false)) return;
  Evidence evidence;
  evidence.message = std::string(failure.message());
  evidence.ranks = ranks;
  const std::vector<ThreadStack> stacks = CaptureThreadStacks(kStackPatience);
  if (recorder_ != nullptr) {
    evidence.step = recorder_->last_step();
    evidence.requests = RequestsUnderWay(*recorder_);
  }
  evidence.stacks = Name(stacks);
  log_.Write(Tell(evidence, {}));
  if (!termination_log_.empty()) {
    WriteTerminationLog(termination_log_, TellIn(kTerminationBytes, evidence), log_);
  }
}

}  // namespace yoio
