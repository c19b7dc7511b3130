// What runs in a step on each GPU: how much of its time no kernel does, how the index comes from rank 0 to
// the others, and which kernels take the time with one rank and with several.
//
//   idle_bench [--shape DIR,...] [--batch N,...] [--ranks N,...] [--index-sharding rank0,rows] [--json FILE]
//
// The steps are those of step_bench, queued one behind the other: decode steps, replayed from CUDA graphs, at
// a context of 131072 tokens, and one of 8192 prompt tokens in the middle of such a prompt, of which kernels
// are listed and nothing else: it is queued kernel by kernel, which tracing slows too much. Each is measured
// twice: timed by the wall clock before anything is traced, then traced, kernel by kernel, with the same
// weights and cache loaded anew.
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
//
// With --ranks every shape carries their number, and of several ranks each has these of its own, its number
// behind the batch; a kernel that waits for another rank keeps its GPU as busy as one that computes. Tracing
// also pulls ranks apart, which makes those kernels longer: `step-traced` tells how much. Besides,
// the median over the steps:
//   broadcast        from the end of top-k to the end, on the last rank, of the collective that carries the
//                    index there
//   broadcast-share  of the step without tracing
//   index-wait       how long a rank had waited for that collective when top-k ended: the longest
// CUPTI puts the times of all GPUs on one clock, to a microsecond or so.
#include <algorithm>
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/check.h"
#include "base/host_resources.h"
#include "bench/gpu_trace.h"
#include "bench/lab.h"
#include "bench/rank_labs.h"
#include "bench/report.h"
#include "bench/step_runner.h"
#include "bench/timeline.h"
#include "bench/worlds.h"
#include "engine/checkpoint/config.h"

namespace yoio::bench {
namespace {

constexpr int kContext = 131072;
constexpr int kPromptBegin = 65536;
constexpr int kPromptTokens = 8192;
constexpr int kDecodeSteps = StepRunner::kDepth;  // in a trace
constexpr int kPromptSteps = 4;
constexpr int kTraces = 3;  // of which the median counts
constexpr size_t kKernelsShown = 10;
constexpr size_t kGapsShown = 5;
constexpr size_t kKernelsCompared = 25;

struct Options {
  std::vector<std::string> shapes = {"bench/shapes/clsa-4b", "bench/shapes/clsa-8b"};
  WorldOptions worlds;
  std::vector<int> batches = {1, 8, 32};
};

// One kind of step of a model on a world.
struct Subject {
  std::string shape;
  World world;
  int batch;          // sequences that generate a token each; 0: prompt tokens
  std::string place;  // shape/context/batch, or shape/context/prompt

  bool is_prompt() const { return batch == 0; }
  int steps() const { return is_prompt() ? kPromptSteps : kDecodeSteps; }
  void Start(StepRunner& runner) const {
    is_prompt() ? runner.StartPrompt(kPromptBegin, kPromptTokens) : runner.StartDecode(kContext, batch);
  }
};

using Ranks = std::vector<Timeline>;  // of one trace, in order

double Us(double ns) { return ns / 1e3; }
double PerStep(const Timeline& line, int64_t ns) { return Us(ns) / line.whole_steps(); }  // us

// "exclusive" is the part of the step that goes by because of the kernel, and sums to the busy time.
void ListLargest(const Timeline& line, const Totals& totals, const char* what, size_t most, Report& report) {
  std::vector<std::pair<std::string, Total>> sorted(totals.begin(), totals.end());
  std::sort(sorted.begin(), sorted.end(),
            [](const auto& a, const auto& b) { return a.second.exclusive > b.second.exclusive; });
  report.Note(absl::StrFormat("    %9s %17s %14s %10s  %s", "in a step", "exclusive us, all", "us, each",
                              "whole, each", what));
  sorted.resize(std::min(sorted.size(), most));
  for (const auto& [name, total] : sorted) {
    report.Note(absl::StrFormat("    %9.1f %17.1f %14.2f %10.2f  %s",
                                static_cast<double>(total.count) / line.whole_steps(),
                                PerStep(line, total.exclusive), Us(total.exclusive) / total.count,
                                Us(total.whole) / total.count, name));
  }
}

void AddShares(const Timeline& line, const std::string& place, double untraced_us, Report& report) {
  const double span = PerStep(line, line.span()), busy = PerStep(line, line.busy());
  report.Add({"idle/" + place, 100 * (1 - busy / span), "%"});
  report.Add({"idle-untraced/" + place, 100 * (1 - busy / untraced_us), "%"});
  report.Add({"exposed/" + place, PerStep(line, line.exposed()), "us"});
  report.Add({"step-untraced/" + place, untraced_us, "us"});
  report.Add({"step-traced/" + place, span, "us"});
}

void ListKernels(const Timeline& line, double untraced_us, Report& report) {
  const double span = PerStep(line, line.span()), busy = PerStep(line, line.busy());
  report.Note(absl::StrFormat(
      "  %d kernels a step, busy for %.1f us; copies in %.1f us of the rest; tracing adds %.1f%%",
      line.kernels_per_step(), busy, PerStep(line, line.copying()), 100 * (span / untraced_us - 1)));
  ListLargest(line, line.by_kernel(), "kernel", kKernelsShown, report);
  ListLargest(line, line.gaps(), "gap between", kGapsShown, report);
}

void AddIndexPath(const Ranks& ranks, const std::string& place, double untraced_us, Report& report) {
  const absl::StatusOr<IndexPath> path = MedianIndexPath(ranks);
  if (!path.ok()) {
    report.Note(absl::StrCat("  ", std::string(path.status().message())));
    return;
  }
  report.Add({"broadcast/" + place, Us(path->broadcast), "us"});
  report.Add({"broadcast-share/" + place, 100 * Us(path->broadcast) / untraced_us, "%"});
  report.Add({"index-wait/" + place, Us(path->wait), "us"});
}

// The kernels of a step side by side, with one rank and with several, without the templates' arguments: which
// of them change with the world.
void Compare(const std::string& title, const std::vector<std::pair<std::string, const Timeline*>>& columns,
             Report& report) {
  std::map<std::string, std::vector<double>> rows;  // exclusive us, by kernel
  std::string heading = "  " + title + ", exclusive us:\n   ";
  for (size_t i = 0; i < columns.size(); ++i) {
    const auto& [label, line] = columns[i];
    heading += absl::StrFormat(" %10s", label);
    for (const auto& [kernel, total] : line->by_kernel()) {
      auto& row = rows[kernel.substr(0, kernel.find('<'))];
      row.resize(columns.size());
      row[i] += PerStep(*line, total.exclusive);
    }
  }
  std::vector<std::pair<std::string, std::vector<double>>> sorted(rows.begin(), rows.end());
  const auto most = [](const auto& row) { return *std::max_element(row.second.begin(), row.second.end()); };
  std::sort(sorted.begin(), sorted.end(), [&](const auto& a, const auto& b) { return most(a) > most(b); });
  sorted.resize(std::min(sorted.size(), kKernelsCompared));
  report.Note(heading);
  for (const auto& [kernel, us] : sorted) {
    std::string text = "   ";
    for (const double each : us) text += absl::StrFormat(" %10.1f", each);
    report.Note(absl::StrCat(text, "  ", kernel));
  }
}

// Calls measure(subject, runner) for each.
template <typename Body>
void ForEachStep(const Options& options, const Body& measure) {
  const Scale scale{.contexts = {kContext},
                    .batches = options.batches,
                    .chunk = kPromptTokens,
                    .prompt_begin = kPromptBegin,
                    .prompt_end = kPromptBegin + kPromptTokens};
  for (const World& world : options.worlds.worlds()) {
    RankLabs labs(/*on_gpu=*/true, world.ranks, AvailableThreads());
    for (const std::string& path : options.shapes) {
      const auto runner =
          Must(StepRunner::Create(labs, Must(ReadModelConfig(path, "")), scale, world.index_by_rows));
      const std::string shape = path.substr(path.find_last_of('/') + 1);
      const std::string name = shape + options.worlds.Suffix(world);
      for (const int batch : options.batches) {
        measure(Subject{shape, world, batch, absl::StrCat(name, "/", kContext, "/", batch)}, *runner);
      }
      measure(Subject{shape, world, 0, absl::StrCat(name, "/", kPromptBegin, "/prompt")}, *runner);
    }
  }
}

// The median trace, by the length of rank 0's.
Ranks Trace(const Subject& subject, StepRunner& runner) {
  subject.Start(runner);
  runner.StepSeconds(subject.steps());
  TakeGpuTrace();
  std::vector<Ranks> traces(kTraces);
  for (Ranks& trace : traces) {
    runner.StepSeconds(subject.steps());
    const std::vector<GpuActivity> activities = TakeGpuTrace();
    for (int rank = 0; rank < subject.world.ranks; ++rank)
      trace.push_back(Must(Timeline::Make(activities, rank, subject.steps())));
  }
  std::sort(traces.begin(), traces.end(),
            [](const Ranks& a, const Ranks& b) { return a[0].span() < b[0].span(); });
  return std::move(traces[kTraces / 2]);
}

void Measure(const Options& options, Report& report) {
  std::map<std::string, double> untraced_us;
  ForEachStep(options, [&](const Subject& subject, StepRunner& runner) {
    subject.Start(runner);
    untraced_us[subject.place] = runner.StepSeconds() * 1e6;
  });
  const absl::Status started = StartGpuTrace();
  YOIO_CHECK(started.ok()) << started.ToString();
  std::map<std::pair<std::string, int>, std::map<World, Ranks>> traces;  // by shape and batch, by world
  ForEachStep(options, [&](const Subject& subject, StepRunner& runner) {
    const double untraced = untraced_us.at(subject.place);
    const Ranks& ranks = traces[{subject.shape, subject.batch}][subject.world] = Trace(subject, runner);
    for (int rank = 0; rank < subject.world.ranks; ++rank) {
      const std::string suffix = subject.world.ranks == 1 ? "" : absl::StrCat("/rank", rank);
      const std::string place = subject.place + suffix;
      if (subject.is_prompt()) {
        report.Note(absl::StrFormat("%s: %.1f us without tracing", place, untraced));
      } else {
        AddShares(ranks[rank], place, untraced, report);
      }
      ListKernels(ranks[rank], untraced, report);
    }
    if (subject.world.ranks > 1 && !subject.is_prompt()) AddIndexPath(ranks, subject.place, untraced, report);
  });
  for (const auto& [key, by_world] : traces) {
    std::vector<std::pair<std::string, const Timeline*>> columns;
    for (const auto& [world, ranks] : by_world) {
      for (int rank = 0; rank < world.ranks; ++rank)
        columns.emplace_back(absl::StrCat("tp", world.name(), ":", rank), &ranks[rank]);
    }
    const std::string what = key.second == 0 ? "prompt" : absl::StrCat("batch ", key.second);
    if (columns.size() > 1) Compare(absl::StrCat(key.first, ", ", what), columns, report);
  }
}

}  // namespace
}  // namespace yoio::bench

int main(int argc, char** argv) {
  CLI::App app("Measures what runs in a step on each GPU");
  yoio::bench::Options options;
  std::string json;
  app.add_option("--shape", options.shapes, "Directories with a config.json")
      ->delimiter(',')
      ->capture_default_str();
  options.worlds.AddTo(app);
  app.add_option("--batch", options.batches, "Sequences decoding, ascending, by commas")
      ->check(CLI::PositiveNumber)
      ->delimiter(',')
      ->capture_default_str();
  app.add_option("--json", json, "Write the results here too");
  CLI11_PARSE(app, argc, argv);
  const yoio::bench::Lab lab("cuda", yoio::AvailableThreads());
  yoio::bench::Report report(options.worlds.Hardware(lab), argc, argv);
  yoio::bench::Measure(options, report);
  return report.Write(json) ? 0 : 1;
}
