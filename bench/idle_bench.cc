// How much of a decode step's time no kernel is running on the GPU.
//
//   idle_bench [--shape DIR,...] [--json FILE]
//
// The steps are those of step_bench, replayed from CUDA graphs and queued one behind the other, at a context
// of 131072 tokens. Each is measured twice: timed by the wall clock before anything is traced, then traced,
// kernel by kernel, with the same weights and cache loaded anew.
//
// The GPU is busy while the interval from start to end of at least one kernel covers the moment. Kernels are
// launched with programmatic dependence: a kernel starts while the ones before it still run, may fetch
// weights, and waits. Most of the time several intervals overlap, and their union counts them once; a moment
// that it leaves out is one in which nothing was even waiting. What it does not see is a GPU that is not
// filled: a last block that runs alone, or the time from the end of a kernel until the next one, already
// there, has woken up and has its first data. The list of kernels shows that: a small kernel takes hardly
// more than this from its predecessor's end to its own.
//
// The traced steps are taken from the start of the first one's first kernel to that of the last one's, so
// that each brings its gap to the next step, and the time before the first launch stays out. Per step and
// batch:
//   idle           the share of it that no kernel covers. Copies are no kernels.
//   idle-untraced  the same busy time, as a part of the step without tracing. Recording a kernel's times may
//                  take time between kernels, which `idle` counts and this does not. It is a difference of
//                  two measurements, each known to about half a percent, and may come out below zero.
//   exposed        the sum, over each two consecutive kernels, of the time from the end of the first to the
//                  start of the second where that starts later
#include <algorithm>
#include <cstdint>
#include <map>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/check.h"
#include "base/host_resources.h"
#include "bench/gpu_trace.h"
#include "bench/lab.h"
#include "bench/report.h"
#include "bench/step_runner.h"
#include "engine/checkpoint/config.h"

namespace yoio::bench {
namespace {

constexpr int kContext = 131072;
constexpr int kSteps = StepRunner::kDepth;  // in a trace
constexpr int kTraces = 3;                  // of which the median counts
constexpr size_t kKernelsShown = 10;
constexpr size_t kGapsShown = 5;

// Of all launches of a kernel, or all gaps between two.
struct Total {
  int count = 0;
  int64_t exclusive = 0;  // ns: of a kernel, from the end of those before it, where that came after its start
  int64_t whole = 0;      // ns
};
using Totals = std::map<std::string, Total>;

void Count(Totals& totals, const std::string& name, int64_t exclusive, int64_t whole) {
  Total& total = totals[name];
  ++total.count;
  total.exclusive += exclusive;
  total.whole += whole;
}

// The time that intervals cover, taken by their start.
class Union {
 public:
  // Returns what this one adds.
  int64_t Add(int64_t start, int64_t end) {
    const int64_t added = std::max<int64_t>(0, end - std::max(start, end_));
    covered_ += added;
    end_ = std::max(end_, end);
    return added;
  }
  int64_t covered() const { return covered_; }

 private:
  int64_t covered_ = 0;
  int64_t end_ = 0;
};

// What happened in kSteps - 1 whole steps. Times are sums over them, in ns.
struct Timeline {
  static constexpr int kWholeSteps = kSteps - 1;

  explicit Timeline(const std::vector<GpuActivity>& activities) {
    std::vector<const GpuActivity*> kernels;
    for (const GpuActivity& activity : activities)
      if (!activity.kernel.empty()) kernels.push_back(&activity);
    YOIO_CHECK(!kernels.empty() && kernels.size() % kSteps == 0) << "not the same kernels in every step";
    kernels_per_step = static_cast<int>(kernels.size()) / kSteps;
    const size_t last = kernels.size() - kernels_per_step;  // not part of it: where the last step begins
    const int64_t begin = kernels[0]->start, end = kernels[last]->start;
    span = end - begin;

    Union covered;
    for (size_t i = 0; i < last; ++i) {
      const GpuActivity& kernel = *kernels[i];
      Count(by_kernel, kernel.kernel, covered.Add(kernel.start, std::min(kernel.end, end)),
            kernel.end - kernel.start);
      const int64_t gap = std::max<int64_t>(0, kernels[i + 1]->start - kernel.end);
      exposed += gap;
      if (gap > 0) Count(gaps, absl::StrCat(kernel.kernel, " -> ", kernels[i + 1]->kernel), gap, gap);
    }
    busy = covered.covered();

    Union with_copies;
    for (const GpuActivity& activity : activities)
      with_copies.Add(std::clamp(activity.start, begin, end), std::clamp(activity.end, begin, end));
    copying = with_copies.covered() - busy;
  }

  int64_t span = 0, busy = 0, exposed = 0;
  int64_t copying = 0;  // while no kernel ran
  int kernels_per_step = 0;
  Totals by_kernel;
  Totals gaps;  // by the kernels on both sides
};

double Us(int64_t ns) { return static_cast<double>(ns) / 1e3; }
double PerStep(int64_t ns) { return Us(ns) / Timeline::kWholeSteps; }  // us

// "exclusive" is the part of the step that goes by because of the kernel, and sums to the busy time.
void ListLargest(const Totals& totals, const char* what, size_t most, Report& report) {
  std::vector<std::pair<std::string, Total>> sorted(totals.begin(), totals.end());
  std::sort(sorted.begin(), sorted.end(),
            [](const auto& a, const auto& b) { return a.second.exclusive > b.second.exclusive; });
  report.Note(absl::StrFormat("    %9s %17s %14s %10s  %s", "in a step", "exclusive us, all", "us, each",
                              "whole, each", what));
  sorted.resize(std::min(sorted.size(), most));
  for (const auto& [name, total] : sorted) {
    report.Note(absl::StrFormat(
        "    %9.1f %17.1f %14.2f %10.2f  %s", static_cast<double>(total.count) / Timeline::kWholeSteps,
        PerStep(total.exclusive), Us(total.exclusive) / total.count, Us(total.whole) / total.count, name));
  }
}

void AddTimeline(const Timeline& timeline, const std::string& place, double untraced_us, Report& report) {
  const double span = PerStep(timeline.span), busy = PerStep(timeline.busy);
  report.Add({"idle/" + place, 100 * (1 - busy / span), "%"});
  report.Add({"idle-untraced/" + place, 100 * (1 - busy / untraced_us), "%"});
  report.Add({"exposed/" + place, PerStep(timeline.exposed), "us"});
  report.Add({"step-untraced/" + place, untraced_us, "us"});
  report.Add({"step-traced/" + place, span, "us"});
  report.Note(absl::StrFormat(
      "  %d kernels a step, busy for %.1f us; copies in %.1f us of the rest; tracing adds %.1f%%",
      timeline.kernels_per_step, busy, PerStep(timeline.copying), 100 * (span / untraced_us - 1)));
  ListLargest(timeline.by_kernel, "kernel", kKernelsShown, report);
  ListLargest(timeline.gaps, "gap between", kGapsShown, report);
}

// Calls measure("shape/context/batch", runner, batch) for each.
template <typename Body>
void ForEachStep(const std::vector<std::string>& shapes, Lab& lab, const Body& measure) {
  const Scale scale{
      .contexts = {kContext}, .batches = {1, 8, 32}, .chunk = 512, .prompt_begin = 0, .prompt_end = 0};
  for (const std::string& shape : shapes) {
    StepRunner runner(lab, Must(ReadModelConfig(shape, "")), scale);
    runner.Prepare();
    const std::string name = shape.substr(shape.find_last_of('/') + 1);
    for (const int batch : scale.batches) {
      measure(absl::StrCat(name, "/", kContext, "/", batch), runner, batch);
    }
  }
}

void Measure(const std::vector<std::string>& shapes, Lab& lab, Report& report) {
  std::map<std::string, double> untraced_us;
  ForEachStep(shapes, lab, [&](const std::string& place, StepRunner& runner, int batch) {
    untraced_us[place] = runner.DecodeSeconds(kContext, batch) * 1e6;
  });
  const absl::Status started = StartGpuTrace();
  YOIO_CHECK(started.ok()) << started.ToString();
  ForEachStep(shapes, lab, [&](const std::string& place, StepRunner& runner, int batch) {
    runner.StartDecode(kContext, batch);
    runner.SecondsPerStep(kSteps);
    TakeGpuTrace();
    std::vector<Timeline> traces;
    for (int i = 0; i < kTraces; ++i) {
      runner.SecondsPerStep(kSteps);
      traces.emplace_back(TakeGpuTrace());
    }
    std::sort(traces.begin(), traces.end(),
              [](const Timeline& a, const Timeline& b) { return a.span < b.span; });
    AddTimeline(traces[kTraces / 2], place, untraced_us.at(place), report);
  });
}

}  // namespace
}  // namespace yoio::bench

int main(int argc, char** argv) {
  CLI::App app("Measures how much of a decode step no kernel runs on the GPU");
  std::vector<std::string> shapes = {"bench/shapes/clsa-4b", "bench/shapes/clsa-8b"};
  std::string json;
  app.add_option("--shape", shapes, "Directories with a config.json")->delimiter(',')->capture_default_str();
  app.add_option("--json", json, "Write the results here too");
  CLI11_PARSE(app, argc, argv);
  yoio::bench::Lab lab("cuda", yoio::AvailableThreads());
  yoio::bench::Report report(lab.hardware(), argc, argv);
  yoio::bench::Measure(shapes, lab, report);
  return report.Write(json) ? 0 : 1;
}
