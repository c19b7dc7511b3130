// Whole steps of whole models: decode at several contexts and batches, and prefill, beside the machine's
// ceilings.
//
//   step_bench [--device auto|cpu|cuda] [--shape DIR,...] [--only decode,prefill] [--context N,...]
//              [--batch N,...] [--ranks N,...] [--index-sharding rank0,rows] [--threads N] [--no-marks]
//              [--json FILE]
//
// Weights are drawn from a seed. The cache is filled with random values instead of by a prefill: a step costs
// the same whatever the cache holds, as long as it is not all one page of zeros. The floor of a decode step
// is what it must read, computed from the loaded config, at the bandwidth that heads the table: every matrix
// but the embedding table once, and for each sequence its window rings, its index keys, and what each later
// layer attends to. The floor of prefill is its arithmetic at the rate of a large matrix product. Steps are
// queued one behind the other as the engine does, each token drawn on the device and fed to the next step,
// and timed by the wall clock around several.
//
// `phase/shape/context/batch/...` is where the time of one step went on rank 0, by the stamps that a worker
// makes between its phases; --no-marks leaves them out, to see what they cost.
//
// With --ranks a model is cut over so many ranks of this process, a GPU and a thread each, and every shape
// carries their number (`clsa-8b-tp2`, and `-rows` where each rank indexes its part of the rows). The clock
// runs from a common start until the slowest rank has ended. Floors are those of the rank with the most to
// read or to compute, rank 0, where index keys are; communication adds nothing to them.
// `tp-speedup/shape/N/...` is the time with one rank over that with N, and `kv-bytes` what a rank keeps of
// each cached token, index keys apart: its floor is an equal share.
#include <algorithm>
#include <map>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "base/host_resources.h"
#include "bench/lab.h"
#include "bench/rank_labs.h"
#include "bench/report.h"
#include "bench/step_runner.h"
#include "bench/worlds.h"
#include "engine/checkpoint/config.h"
#include "engine/step_times.h"

namespace yoio::bench {
namespace {

struct Options {
  std::vector<std::string> shapes;
  std::vector<std::string> parts = {"decode", "prefill"};
  WorldOptions worlds;
  int threads = AvailableThreads();
  bool no_marks = false;
  Scale scale;

  bool Wants(const std::string& part) const {
    return std::find(parts.begin(), parts.end(), part) != parts.end();
  }
};

// One model on one world.
struct Subject {
  std::string shape;
  World world;
  std::string name;         // the shape, with the world where several are compared
  double share_of_machine;  // of each rank: of a GPU all, of a CPU as much as of any other rank
};

// One measurement; ordered so that those of a world stand together.
struct Key {
  World world;
  std::string shape;
  std::string what;  // step or prefill
  int context, batch;
  auto operator<=>(const Key&) const = default;
};
struct Measured {
  double seconds = 0, floor = 0;
};
using Times = std::map<Key, Measured>;

void AddPhases(const StepTimes& times, const std::string& place, Report& report) {
  for (int phase = 0; phase < kNumStepPhases; ++phase) {
    const std::string name(NameOf(static_cast<StepPhase>(phase)));
    report.Add({absl::StrCat("phase/", place, "/", name), ToSeconds(times.phases[phase]) * 1e6, "us"});
  }
  if (times.comm_wait > Duration::zero())
    report.Add({absl::StrCat("phase/", place, "/comm_wait"), ToSeconds(times.comm_wait) * 1e6, "us"});
}

void MeasureDecode(Lab& lab, const Subject& subject, StepRunner& runner, const Options& options, Times& times,
                   Report& report) {
  const Scale& scale = options.scale;
  const double bandwidth = lab.Bandwidth(size_t{1} << 30) * subject.share_of_machine;
  for (const int batch : scale.batches) {
    const auto step_at = [&](int context) -> Measured& {
      return times[{subject.world, subject.shape, "step", context, batch}];
    };
    for (const int context : scale.contexts) {
      runner.StartDecode(context, batch);
      const Measured step{runner.StepSeconds(), runner.busiest().DecodeBytes(context, batch) / bandwidth};
      step_at(context) = step;
      const std::string place = absl::StrCat(subject.name, "/", context, "/", batch);
      report.Add({"step/" + place, step.seconds * 1e6, "us", step.floor * 1e6});
      report.Add({"decode/" + place, batch / step.seconds, "tokens/s", batch / step.floor});
      if (!options.no_marks) AddPhases(runner.Times(), place, report);
    }
    const int longest = scale.contexts.back(), shortest = scale.contexts.front();
    if (longest == shortest) continue;
    report.Add({absl::StrCat("step-growth/", subject.name, "/", longest, "-over-", shortest, "/", batch),
                step_at(longest).seconds / step_at(shortest).seconds, "x",
                step_at(longest).floor / step_at(shortest).floor, /*is_cost=*/true});
  }
}

void MeasurePrefill(Lab& lab, const Subject& subject, StepRunner& runner, const Scale& scale, Times& times,
                    Report& report) {
  const int begin = scale.prompt_begin, end = scale.prompt_end;
  const int context = begin == 0 ? end : begin;
  const Measured prompt{runner.PrefillSeconds(begin, end, scale.chunk),
                        runner.busiest().PrefillFlops(begin, end) / (lab.rate() * subject.share_of_machine)};
  times[{subject.world, subject.shape, "prefill", context, 1}] = prompt;
  report.Add({absl::StrCat("prefill/", subject.name, "/", context, "/1"), (end - begin) / prompt.seconds,
              "tokens/s", (end - begin) / prompt.floor});
}

// What a rank keeps of the keys and values, beside an equal share of all.
void AddKvBytes(const Lab& lab, const Subject& subject, const ModelConfig& config, const StepRank& rank,
                Report& report) {
  double share = 0;
  for (const Store& store : config.plan.stores)
    if (store.window == 0) share += 2.0 * store.kv_heads * store.head_dim * lab.activation_bytes();
  report.Add({"kv-bytes/" + subject.name, rank.KvBytesPerToken(), "B/token", share / subject.world.ranks,
              /*is_cost=*/true});
}

// What sparse attention gains over dense, where both were measured.
void CompareWithYoco(const Times& times, const WorldOptions& worlds, Report& report) {
  for (const auto& [key, clsa] : times) {
    if (key.what != "step" || !absl::StartsWith(key.shape, "clsa-")) continue;
    const std::string size(absl::StripPrefix(key.shape, "clsa-"));
    const auto yoco = times.find({key.world, "yoco-" + size, key.what, key.context, key.batch});
    if (yoco == times.end()) continue;
    report.Add(
        {absl::StrCat("clsa-over-yoco/", size, worlds.Suffix(key.world), "/", key.context, "/", key.batch),
         yoco->second.seconds / clsa.seconds, "x", yoco->second.floor / clsa.floor});
  }
}

// What more ranks gain over one, where both were measured.
void CompareWithOneRank(const Times& times, Report& report) {
  for (const auto& [key, many] : times) {
    const auto one = times.find({World{}, key.shape, key.what, key.context, key.batch});
    if (key.world == World{} || one == times.end()) continue;
    report.Add({absl::StrCat("tp-speedup/", key.shape, "/", key.world.name(), "/", key.what, "/", key.context,
                             "/", key.batch),
                one->second.seconds / many.seconds, "x", one->second.floor / many.floor});
  }
}

void MeasureShape(Lab& lab, const Options& options, RankLabs& labs, const Subject& subject,
                  const ModelConfig& config, Times& times, Report& report) {
  const auto runner =
      StepRunner::Create(labs, config, options.scale, subject.world.index_by_rows, !options.no_marks);
  if (!runner.ok()) {
    report.Note(absl::StrCat(subject.name, " is left out: ", std::string(runner.status().message())));
    return;
  }
  if (!options.worlds.ranks.empty()) AddKvBytes(lab, subject, config, (*runner)->busiest(), report);
  if (options.Wants("decode")) MeasureDecode(lab, subject, **runner, options, times, report);
  if (options.Wants("prefill")) MeasurePrefill(lab, subject, **runner, options.scale, times, report);
}

void Measure(const Options& options, Lab& lab, Report& report) {
  lab.AddCeilings(report);
  Times times;
  for (const World& world : options.worlds.worlds()) {
    RankLabs labs(lab.on_gpu(), world.ranks, options.threads);
    for (const std::string& path : options.shapes) {
      const std::string shape = path.substr(path.find_last_of('/') + 1);
      const Subject subject{shape, world, shape + options.worlds.Suffix(world),
                            lab.on_gpu() ? 1.0 : 1.0 / world.ranks};
      MeasureShape(lab, options, labs, subject, Must(ReadModelConfig(path, "")), times, report);
    }
  }
  CompareWithYoco(times, options.worlds, report);
  CompareWithOneRank(times, report);
}

}  // namespace
}  // namespace yoio::bench

int main(int argc, char** argv) {
  CLI::App app("Measures whole steps on this machine");
  std::string device = "auto", json;
  yoio::bench::Options options;
  std::vector<int> contexts, batches;
  app.add_option("--device", device, "Where")
      ->check(CLI::IsMember({"auto", "cpu", "cuda"}))
      ->capture_default_str();
  app.add_option(
         "--shape", options.shapes,
         "Directories with a config.json; clsa-4b, clsa-8b, yoco-4b and yoco-8b on a GPU, else clsa-500m")
      ->delimiter(',');
  app.add_option("--only", options.parts, "decode, prefill or both, by commas")
      ->check(CLI::IsMember(options.parts))
      ->delimiter(',');
  app.add_option("--context", contexts, "Tokens cached when decoding, ascending, by commas")
      ->check(CLI::PositiveNumber)
      ->delimiter(',');
  app.add_option("--batch", batches, "Sequences decoding, ascending, by commas")
      ->check(CLI::PositiveNumber)
      ->delimiter(',');
  options.worlds.AddTo(app);
  app.add_option("--threads", options.threads, "Threads, on a CPU")->check(CLI::PositiveNumber);
  app.add_flag("--no-marks", options.no_marks, "Leave out the stamps between the phases of a step");
  app.add_option("--json", json, "Write the results here too");
  CLI11_PARSE(app, argc, argv);
  yoio::bench::Lab lab(device, options.threads);
  if (options.shapes.empty() && lab.on_gpu()) {
    options.shapes = {"bench/shapes/clsa-4b", "bench/shapes/clsa-8b", "bench/shapes/yoco-4b",
                      "bench/shapes/yoco-8b"};
  }
  if (options.shapes.empty()) options.shapes = {"bench/shapes/clsa-500m"};
  options.scale = yoio::bench::Scale::Of(lab);
  if (!contexts.empty()) options.scale.contexts = contexts;
  if (!batches.empty()) options.scale.batches = batches;
  yoio::bench::Report report(options.worlds.Hardware(lab), argc, argv);
  yoio::bench::Measure(options, lab, report);
  return report.Write(json) ? 0 : 1;
}
