// Whole steps of whole models: decode at several contexts and batches, and prefill, beside the machine's
// ceilings.
//
//   step_bench [--device auto|cpu|cuda] [--shape DIR,...] [--only decode,prefill] [--threads N] [--json FILE]
//
// Weights are drawn from a seed. The cache is filled with random values instead of by a prefill: a step costs
// the same whatever the cache holds, as long as it is not all one page of zeros. The floor of a decode step
// is what it must read, computed from the loaded config, at the bandwidth that heads the table: every matrix
// but the embedding table once, and for each sequence its window rings, its index keys, and what each later
// layer attends to. The floor of prefill is its arithmetic at the rate of a large matrix product. Steps are
// queued one behind the other as the engine does, each token drawn on the device and fed to the next step,
// and timed by the wall clock around several.
#include <algorithm>
#include <map>
#include <string>
#include <tuple>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"
#include "base/host_resources.h"
#include "bench/lab.h"
#include "bench/report.h"
#include "bench/step_runner.h"
#include "engine/checkpoint/config.h"

namespace yoio::bench {
namespace {

struct Measured {
  double seconds = 0, floor = 0;
};
using StepTimes = std::map<std::tuple<std::string, int, int>, Measured>;  // by shape, context, batch

void MeasureDecode(Lab& lab, const std::string& name, StepRunner& runner, const Scale& scale,
                   StepTimes& times, Report& report) {
  const double bandwidth = lab.Bandwidth(size_t{1} << 30);
  for (const int batch : scale.batches) {
    for (const int context : scale.contexts) {
      const Measured step{runner.DecodeSeconds(context, batch),
                          runner.DecodeBytes(context, batch) / bandwidth};
      times[{name, context, batch}] = step;
      const std::string place = absl::StrCat(name, "/", context, "/", batch);
      report.Add({"step/" + place, step.seconds * 1e6, "us", step.floor * 1e6});
      report.Add({"decode/" + place, batch / step.seconds, "tokens/s", batch / step.floor});
    }
    const int longest = scale.contexts.back(), shortest = scale.contexts.front();
    const Measured at_longest = times[{name, longest, batch}], at_shortest = times[{name, shortest, batch}];
    report.Add({absl::StrCat("step-growth/", name, "/", longest, "-over-", shortest, "/", batch),
                at_longest.seconds / at_shortest.seconds, "x", at_longest.floor / at_shortest.floor,
                /*is_cost=*/true});
  }
}

void MeasurePrefill(Lab& lab, const std::string& name, StepRunner& runner, const Scale& scale,
                    Report& report) {
  const int begin = scale.prompt_begin, end = scale.prompt_end;
  const double seconds = runner.PrefillSeconds(begin, end, scale.chunk);
  const double floor = runner.PrefillFlops(begin, end) / lab.rate();
  report.Add({absl::StrCat("prefill/", name, "/", begin == 0 ? end : begin, "/1"), (end - begin) / seconds,
              "tokens/s", (end - begin) / floor});
}

// What sparse attention gains over dense, where both were measured.
void CompareWithYoco(const StepTimes& times, Report& report) {
  for (const auto& [key, clsa] : times) {
    const auto& [name, context, batch] = key;
    if (!absl::StartsWith(name, "clsa-")) continue;
    const std::string size(absl::StripPrefix(name, "clsa-"));
    const auto yoco = times.find({"yoco-" + size, context, batch});
    if (yoco == times.end()) continue;
    report.Add({absl::StrCat("clsa-over-yoco/", size, "/", context, "/", batch),
                yoco->second.seconds / clsa.seconds, "x", yoco->second.floor / clsa.floor});
  }
}

bool Wants(const std::vector<std::string>& parts, const std::string& part) {
  return std::find(parts.begin(), parts.end(), part) != parts.end();
}

void Measure(const std::vector<std::string>& shapes, const std::vector<std::string>& parts, Lab& lab,
             Report& report) {
  lab.AddCeilings(report);
  const Scale scale = Scale::Of(lab);
  StepTimes times;
  for (const std::string& shape : shapes) {
    const std::string name = shape.substr(shape.find_last_of('/') + 1);
    const ModelConfig config = Must(ReadModelConfig(shape, ""));
    StepRunner runner(lab, config, scale);
    const int64_t available = Must(lab.backend().AvailableBytes());
    if (runner.Bytes() > available) {
      report.Note(absl::StrFormat("%s does not fit: it takes %.1f GiB, and %.1f GiB are free", name,
                                  runner.Bytes() / 0x1p30, available / 0x1p30));
      continue;
    }
    runner.Prepare();
    if (Wants(parts, "decode")) MeasureDecode(lab, name, runner, scale, times, report);
    if (Wants(parts, "prefill")) MeasurePrefill(lab, name, runner, scale, report);
  }
  CompareWithYoco(times, report);
}

}  // namespace
}  // namespace yoio::bench

int main(int argc, char** argv) {
  CLI::App app("Measures whole steps on this machine");
  std::string device = "auto", json;
  std::vector<std::string> shapes, parts = {"decode", "prefill"};
  int threads = yoio::AvailableThreads();
  app.add_option("--device", device, "Where")
      ->check(CLI::IsMember({"auto", "cpu", "cuda"}))
      ->capture_default_str();
  app.add_option(
         "--shape", shapes,
         "Directories with a config.json; clsa-4b, clsa-8b, yoco-4b and yoco-8b on a GPU, else clsa-500m")
      ->delimiter(',');
  app.add_option("--only", parts, "decode, prefill or both, by commas")
      ->check(CLI::IsMember(parts))
      ->delimiter(',');
  app.add_option("--threads", threads, "Threads, on a CPU")->check(CLI::PositiveNumber);
  app.add_option("--json", json, "Write the results here too");
  CLI11_PARSE(app, argc, argv);
  yoio::bench::Lab lab(device, threads);
  if (shapes.empty() && lab.on_gpu()) {
    shapes = {"bench/shapes/clsa-4b", "bench/shapes/clsa-8b", "bench/shapes/yoco-4b", "bench/shapes/yoco-8b"};
  }
  if (shapes.empty()) shapes = {"bench/shapes/clsa-500m"};
  yoio::bench::Report report(lab.hardware(), argc, argv);
  yoio::bench::Measure(shapes, parts, lab, report);
  return report.Write(json) ? 0 : 1;
}
