#include "bench/report.h"

#include <cstdio>
#include <fstream>
#include <thread>
#include <utility>

#include "nlohmann/json.hpp"

namespace yoio::bench {
namespace {

std::string ProcessorName() {
  std::ifstream file("/proc/cpuinfo");
  std::string line;
  while (std::getline(file, line)) {
    if (line.rfind("model name", 0) == 0) return line.substr(line.find(':') + 2);
  }
  return "unknown processor";
}

bool IsTime(const Result& result) { return result.unit == "us"; }

double Ratio(const Result& result) {
  if (result.floor == 0) return 0;
  return IsTime(result) ? result.floor / result.value : result.value / result.floor;
}

}  // namespace

Report::Report(int argc, char** argv)
    : hardware_(ProcessorName() + ", " + std::to_string(std::thread::hardware_concurrency()) + " threads") {
  for (int i = 0; i < argc; ++i) command_ += (i > 0 ? " " : "") + std::string(argv[i]);
  std::printf("%s\n%-40s %14s %-9s %14s %7s\n", hardware_.c_str(), "name", "value", "unit", "floor", "ratio");
}

void Report::Add(Result result) {
  std::printf("%-40s %14.1f %-9s", result.name.c_str(), result.value, result.unit.c_str());
  if (result.floor > 0) std::printf(" %14.1f %7.2f", result.floor, Ratio(result));
  std::printf("\n");
  std::fflush(stdout);
  results_.push_back(std::move(result));
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
