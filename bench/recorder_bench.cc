// What it costs the engine thread to note what happens in its steps.
//
//   recorder_bench [--json FILE]
//
// Steps are those of a real scheduler whose requests all decode, without a model; the engine's notes take
// them in as StepLoop would hand them over, with one gap for each token. Only the notes are timed. Per batch:
//   notes        nanoseconds for each token of a step, the mean of many steps
//   allocations  from the heap, for each step
// Besides:
//   gap          nanoseconds of one LatencyHistogram::Add, the part that is done for each token
//   rank         nanoseconds of noting a rank's times, on that rank's own thread
#include <memory>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "bench/allocations.h"
#include "bench/measure.h"
#include "bench/report.h"
#include "engine/live_request.h"
#include "engine/step_notes.h"

namespace yoio::bench {
namespace {

constexpr int kRanks = 8;
constexpr int kSteps = 20000;

SchedulerOptions OptionsFor(int requests) {
  SchedulerOptions options;
  options.num_blocks = requests * (kSteps / options.block_tokens + 2);
  options.max_sequences = requests;
  options.max_step_tokens = requests;
  options.max_output_rows = requests;
  return options;
}

StepTimes SomeTimes() {
  StepTimes times{.total = std::chrono::milliseconds(7), .comm_wait = std::chrono::milliseconds(1)};
  times.phases.fill(std::chrono::milliseconds(1));
  return times;
}

void MeasureNotes(int requests, Report& report) {
  Scheduler scheduler(OptionsFor(requests));
  StepNotes notes(kRanks);
  std::vector<std::unique_ptr<LiveRequest>> live;
  for (int i = 0; i < requests; ++i) {
    auto& request = *live.emplace_back(std::make_unique<LiveRequest>());
    request.prompt = {1};
    request.max_tokens = kSteps;
    request.number = notes.recorder().Accepted(absl::StrCat(i), "tenant", {}, Clock::now());
    scheduler.Add(&request);
  }
  double seconds = 0;
  int64_t allocated = 0;
  for (int i = 0; i < kSteps; ++i) {
    const TimePoint begin = Clock::now();
    const StepPlan plan = scheduler.Next(begin);
    StepResult result;
    result.step = plan.step;
    result.samples.resize(plan.samples.size());
    const int64_t before = Allocations();
    const TimePoint start = Clock::now();
    notes.SchedulerBegins();
    notes.Planned(plan, scheduler, begin);
    notes.SchedulerBegins();
    notes.Delivered(plan.step, start);
    for (size_t token = 0; token < plan.samples.size(); ++token) notes.TokenGap(start - begin);
    notes.Publish();
    if (i > 0) {  // the first makes room for members
      seconds += ToSeconds(Clock::now() - start);
      allocated += Allocations() - before;
    }
    scheduler.Deliver(result);
  }
  report.Add(
      {absl::StrCat("notes/", requests), seconds / (kSteps - 1) / requests * 1e9, "ns", 0, /*is_cost=*/true});
  report.Add({absl::StrCat("allocations/", requests), static_cast<double>(allocated) / (kSteps - 1), "x", 0,
              /*is_cost=*/true});
}

void MeasureParts(Report& report) {
  constexpr int kTimes = 1000;
  LatencyHistogram histogram;
  const double gap = MedianSeconds([&] {
    for (int i = 0; i < kTimes; ++i) histogram.Add(std::chrono::microseconds(i * 37 % 20000));
  });
  report.Add({"gap", gap / kTimes * 1e9, "ns", 0, /*is_cost=*/true});
  StepNotes notes(kRanks);
  const StepTimes times = SomeTimes();
  const double rank = MedianSeconds([&] {
    for (int i = 0; i < kTimes; ++i) notes.RankEnded(i % kRanks, i, times);
  });
  report.Add({"rank", rank / kTimes * 1e9, "ns", 0, /*is_cost=*/true});
}

}  // namespace
}  // namespace yoio::bench

int main(int argc, char** argv) {
  CLI::App app("Measures what it costs the engine thread to note what happens in its steps");
  std::string json;
  app.add_option("--json", json, "Write the results here");
  CLI11_PARSE(app, argc, argv);
  yoio::bench::Report report(yoio::bench::ProcessorName(1), argc, argv);
  for (const int requests : {1, 16, 64, 256}) yoio::bench::MeasureNotes(requests, report);
  yoio::bench::MeasureParts(report);
  return report.Write(json) ? 0 : 1;
}
