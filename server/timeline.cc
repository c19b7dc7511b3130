#include "server/timeline.h"

#include <algorithm>
#include <utility>

#include "nlohmann/json.hpp"
#include "server/gzip.h"
#include "server/request_names.h"
#include "server/version.h"
#include "server/wall_clock.h"

namespace yoio {
namespace {

using Json = nlohmann::ordered_json;

// Numbers of the two processes; a rank's thread has the rank's number.
constexpr int kEngine = 1;
constexpr int kRanks = 2;
constexpr int kEngineThread = 0;
constexpr size_t kMostMembers = 256;  // named in one step

class Timeline {
 public:
  Timeline(TimePoint origin, const FlightRecorder& recorder) : origin_(origin), names_(recorder) {
    const WallClock clock;
    const Json other = {{"version", kVersion}, {"begin_unix_us", clock.UnixNanos(origin) / 1000}};
    gzip_.Append(R"({"displayTimeUnit":"ms","otherData":)" + other.dump() + R"(,"traceEvents":[)");
  }

  // Events of a thread come in the order of their begin, those that enclose others before them.
  void NameThreads(int ranks);
  void AddEngine(const std::vector<StepRecord>& steps);
  void AddCounters(const std::vector<StepRecord>& steps);
  void AddRank(const std::vector<StepRecord>& steps, int rank);
  std::string Finish() {
    gzip_.Append("]}\n");
    return gzip_.Finish();
  }

 private:
  double Micros(Duration duration) const {
    return std::chrono::duration<double, std::micro>(duration).count();
  }
  void Add(const Json& event) { gzip_.Append((std::exchange(first_, false) ? "\n" : ",\n") + event.dump()); }
  void AddName(const char* what, int process, int thread, const std::string& name) {
    Add({{"ph", "M"}, {"name", what}, {"pid", process}, {"tid", thread}, {"args", {{"name", name}}}});
  }
  void AddSpan(const std::string& name, int process, int thread, TimePoint begin, Duration length, Json args);
  Json MembersOf(const StepRecord& step);

  const TimePoint origin_;
  RequestNames names_;
  GzipWriter gzip_;
  bool first_ = true;
};

void Timeline::NameThreads(int ranks) {
  AddName("process_name", kEngine, kEngineThread, "engine");
  AddName("thread_name", kEngine, kEngineThread, "engine");
  AddName("process_name", kRanks, 0, "ranks");
  for (int rank = 0; rank < ranks; ++rank)
    AddName("thread_name", kRanks, rank, "rank " + std::to_string(rank));
}

void Timeline::AddSpan(const std::string& name, int process, int thread, TimePoint begin, Duration length,
                       Json args) {
  Add({{"ph", "X"},
       {"name", name},
       {"pid", process},
       {"tid", thread},
       {"ts", Micros(begin - origin_)},
       {"dur", Micros(length)},
       {"args", std::move(args)}});
}

Json Timeline::MembersOf(const StepRecord& step) {
  Json members = Json::array();
  const size_t named = std::min(step.members.size(), kMostMembers);
  for (size_t i = 0; i < named; ++i) {
    members.push_back({{"id", names_.Of(step.members[i].request)}, {"tokens", step.members[i].tokens}});
  }
  return members;
}

// A step begins where the one before it ends, or with its own submission: so its time says what it cost. With
// several in flight a plan lies within the step that ran meanwhile.
void Timeline::AddEngine(const std::vector<StepRecord>& steps) {
  struct Span {
    TimePoint begin, end;
    const StepRecord* step;
    bool is_plan;
  };
  std::vector<Span> spans;
  TimePoint last_end{};
  for (const StepRecord& step : steps) {
    spans.push_back({step.begin, step.submitted, &step, true});
    if (!step.ended) continue;
    const TimePoint begin = std::max(step.submitted, last_end);
    last_end = std::max(begin, *step.ended);
    spans.push_back({begin, last_end, &step, false});
  }
  std::stable_sort(spans.begin(), spans.end(), [](const Span& a, const Span& b) {
    return a.begin != b.begin ? a.begin < b.begin : a.end > b.end;
  });
  for (const Span& span : spans) {
    const StepRecord& step = *span.step;
    Json args = {{"step", step.step}};
    if (!span.is_plan) {
      args.update({{"prompt_tokens", step.prompt_tokens},
                   {"generated_tokens", step.generated_tokens},
                   {"output_rows", step.output_rows},
                   {"requests", step.requests},
                   {"members", MembersOf(step)}});
    }
    AddSpan(span.is_plan ? "plan" : "step", kEngine, kEngineThread, span.begin, span.end - span.begin,
            std::move(args));
  }
}

void Timeline::AddCounters(const std::vector<StepRecord>& steps) {
  for (const StepRecord& step : steps) {
    for (const auto& [name, value] :
         {std::pair{"running", step.running}, {"waiting", step.waiting}, {"free_blocks", step.free_blocks}}) {
      Add({{"ph", "C"},
           {"name", name},
           {"pid", kEngine},
           {"ts", Micros(step.submitted - origin_)},
           {"args", {{name, value}}}});
    }
  }
}

void Timeline::AddRank(const std::vector<StepRecord>& steps, int rank) {
  TimePoint last_end{};
  for (const StepRecord& step : steps) {
    const StepTimes& times = step.ranks[rank];
    if (times.total == Duration::zero()) continue;
    TimePoint begin = std::max(step.submitted, last_end);
    if (step.ended) begin = std::max(begin, *step.ended - times.total);
    Json args = {{"step", step.step}, {"recorded", times.recorded}};
    if (times.comm_wait > Duration::zero()) args["comm_wait_us"] = Micros(times.comm_wait);
    AddSpan("step", kRanks, rank, begin, times.total, std::move(args));
    last_end = begin + times.total;
    for (int i = 0; i < kNumStepPhases; ++i) {
      if (times.phases[i] == Duration::zero()) continue;
      AddSpan(std::string(NameOf(static_cast<StepPhase>(i))), kRanks, rank, begin, times.phases[i],
              {{"step", step.step}});
      begin += times.phases[i];
    }
  }
}

}  // namespace

std::string RenderTimeline(const std::vector<StepRecord>& steps, const FlightRecorder& recorder) {
  Timeline timeline(steps.empty() ? Clock::now() : steps.front().begin, recorder);
  const int ranks = steps.empty() ? 0 : static_cast<int>(steps.front().ranks.size());
  timeline.NameThreads(ranks);
  timeline.AddEngine(steps);
  timeline.AddCounters(steps);
  for (int rank = 0; rank < ranks; ++rank) timeline.AddRank(steps, rank);
  return timeline.Finish();
}

}  // namespace yoio
