#include "bench/report.h"

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <utility>

#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"

namespace yoio::bench {
namespace {

bool IsCost(const Result& result) { return result.is_cost || result.unit == "us"; }

double Ratio(const Result& result) {
  if (result.floor == 0) return 0;
  return IsCost(result) ? result.floor / result.value : result.value / result.floor;
}

}  // namespace

std::string ProcessorName(int threads) {
  std::string name = "unknown processor";
  std::ifstream file("/proc/cpuinfo");
  std::string line;
  while (std::getline(file, line)) {
    if (line.rfind("model name", 0) != 0) continue;
    name = line.substr(line.find(':') + 2);
    break;
  }
  return name + ", " + std::to_string(threads) + " threads";
}

Report::Report(std::string hardware, int argc, char** argv) : hardware_(std::move(hardware)) {
  for (int i = 0; i < argc; ++i) absl::StrAppend(&command_, i > 0 ? " " : "", argv[i]);
  std::printf("%s\n%-52s %14s %-9s %14s %7s\n", hardware_.c_str(), "name", "value", "unit", "floor", "ratio");
}

void Report::Add(Result result) {
  const int digits = result.unit == "x" ? 3 : 1;
  std::printf("%-52s %14.*f %-9s", result.name.c_str(), digits, result.value, result.unit.c_str());
  if (result.floor > 0) std::printf(" %14.*f %7.2f", digits, result.floor, Ratio(result));
  std::printf("\n");
  std::fflush(stdout);
  results_.push_back(std::move(result));
}

bool Report::Has(const std::string& name) const {
  return std::any_of(results_.begin(), results_.end(),
                     [&](const Result& result) { return result.name == name; });
}

void Report::Note(const std::string& line) {
  std::printf("%s\n", line.c_str());
  std::fflush(stdout);
}

bool Report::Write(const std::string& path) const {
  if (path.empty()) return true;
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  for (const Result& result : results_) {
    nlohmann::ordered_json entry{{"name", result.name}, {"value", result.value}, {"unit", result.unit}};
    entry["floor"] = result.floor > 0 ? nlohmann::ordered_json(result.floor) : nlohmann::ordered_json();
    entry["ratio"] = result.floor > 0 ? nlohmann::ordered_json(Ratio(result)) : nlohmann::ordered_json();
    entry["hardware"] = hardware_;
    entry["command"] = command_;
    list.push_back(std::move(entry));
  }
  std::ofstream file(path);
  file << list.dump(1) << "\n";
  if (file.good()) return true;
  std::fprintf(stderr, "cannot write %s\n", path.c_str());
  return false;
}

}  // namespace yoio::bench
