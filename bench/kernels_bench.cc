// The heavy operations of a step, at the shapes of whole models.
//
//   kernels_bench [--device auto|cpu|cuda] [--shape DIR,...] [--only PART,...] [--threads N] [--json FILE]
//
// The table is headed by what the machine itself reaches in this run: on a GPU the copy bandwidth of its
// memory and the rate of a large bf16 product, on a CPU the read bandwidth and OpenBLAS. The floor of a time
// is the greater of two: the bytes that must be moved, at that bandwidth, and the arithmetic, at that rate.
// Weights and caches are larger than any cache of the processor, or rotated through so many copies.
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/host_resources.h"
#include "bench/lab.h"
#include "bench/parts.h"
#include "bench/report.h"
#include "engine/checkpoint/config.h"

namespace yoio::bench {
namespace {

struct Part {
  const char* name;
  void (*measure)(Lab& lab, const ModelShape& shape, Report& report);
};

constexpr Part kParts[] = {{"skinny", MeasureSkinnyProducts},
                           {"prompt", MeasurePromptProducts},
                           {"window", MeasureWindowAttention},
                           {"sparse", MeasureSparseAttention},
                           {"dense", MeasureDenseAttention},
                           {"scores", MeasureIndexScores},
                           {"topk", MeasureTopK}};

std::vector<std::string> PartNames() {
  std::vector<std::string> names;
  for (const Part& part : kParts) names.push_back(part.name);
  return names;
}

void Measure(const std::vector<std::string>& shapes, const std::vector<std::string>& parts, Lab& lab,
             Report& report) {
  lab.AddCeilings(report);
  for (const std::string& directory : shapes) {
    const ModelShape shape{directory.substr(directory.find_last_of('/') + 1),
                           Must(ReadModelConfig(directory, ""))};
    for (const Part& part : kParts) {
      if (std::find(parts.begin(), parts.end(), part.name) != parts.end()) part.measure(lab, shape, report);
    }
  }
}

}  // namespace
}  // namespace yoio::bench

int main(int argc, char** argv) {
  CLI::App app("Measures the heavy operations of a step on this machine");
  std::string device = "auto", json;
  std::vector<std::string> shapes, parts = yoio::bench::PartNames();
  int threads = yoio::AvailableThreads();
  app.add_option("--device", device, "Where")
      ->check(CLI::IsMember({"auto", "cpu", "cuda"}))
      ->capture_default_str();
  app.add_option("--shape", shapes,
                 "Directories with a config.json; clsa-4b and clsa-8b on a GPU, else clsa-500m")
      ->delimiter(',');
  app.add_option("--only", parts, "What to measure, by commas: " + absl::StrJoin(parts, ", "))
      ->check(CLI::IsMember(parts))
      ->delimiter(',');
  app.add_option("--threads", threads, "Threads, on a CPU")->check(CLI::PositiveNumber);
  app.add_option("--json", json, "Write the results to this file");
  CLI11_PARSE(app, argc, argv);
  yoio::bench::Lab lab(device, threads);
  if (shapes.empty()) {
    shapes = lab.on_gpu() ? std::vector<std::string>{"bench/shapes/clsa-4b", "bench/shapes/clsa-8b"}
                          : std::vector<std::string>{"bench/shapes/clsa-500m"};
  }
  yoio::bench::Report report(lab.hardware(), argc, argv);
  yoio::bench::Measure(shapes, parts, lab, report);
  return report.Write(json) ? 0 : 1;
}
