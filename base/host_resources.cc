#include "base/host_resources.h"

#include <sched.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <limits>
#include <sstream>
#include <string>
#include <thread>

namespace yoio {
namespace {

constexpr int64_t kNone = std::numeric_limits<int64_t>::max();
constexpr char kCgroup2[] = "/sys/fs/cgroup/";
constexpr char kCgroup1Memory[] = "/sys/fs/cgroup/memory/";
constexpr char kCgroup1Cpu[] = "/sys/fs/cgroup/cpu/";

std::string FirstLine(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

// The number in a one-number file, or `missing` when there is none ("max", or no such file).
int64_t NumberIn(const std::string& path, int64_t missing) {
  std::istringstream line(FirstLine(path));
  int64_t value;
  return line >> value ? value : missing;
}

double CgroupCpus() {
  std::istringstream line(FirstLine(std::string(kCgroup2) + "cpu.max"));  // "quota period" or "max period"
  double quota, period;
  if (line >> quota >> period && period > 0) return quota / period;
  const int64_t quota1 = NumberIn(std::string(kCgroup1Cpu) + "cpu.cfs_quota_us", -1);
  const int64_t period1 = NumberIn(std::string(kCgroup1Cpu) + "cpu.cfs_period_us", 0);
  if (quota1 > 0 && period1 > 0) return static_cast<double>(quota1) / static_cast<double>(period1);
  return std::numeric_limits<double>::infinity();
}

// The number behind `key` in a file of "key number" lines, or `missing`.
int64_t NumberBehind(const std::string& key, const std::string& path, int64_t missing) {
  std::ifstream file(path);
  std::string name, rest;
  int64_t value;
  while (file >> name >> value) {
    if (name == key) return value;
    std::getline(file, rest);
  }
  return missing;
}

// Pages of files that nobody has read lately count as usage, but make room for whoever needs it: without them
// a container that has just read its weights would look full.
int64_t CgroupMemoryLeft() {
  const std::string v2 = kCgroup2, v1 = kCgroup1Memory;
  const int64_t limit2 = NumberIn(v2 + "memory.max", kNone);
  if (limit2 != kNone) {
    return limit2 - NumberIn(v2 + "memory.current", 0) + NumberBehind("inactive_file", v2 + "memory.stat", 0);
  }
  const int64_t limit1 = NumberIn(v1 + "memory.limit_in_bytes", kNone);
  if (limit1 != kNone) {
    return limit1 - NumberIn(v1 + "memory.usage_in_bytes", 0) +
           NumberBehind("total_inactive_file", v1 + "memory.stat", 0);
  }
  return kNone;
}

int64_t SystemMemoryAvailable() {
  const int64_t kib = NumberBehind("MemAvailable:", "/proc/meminfo", -1);
  return kib < 0 ? kNone : kib * 1024;
}

}  // namespace

int AvailableThreads() {
  int threads = std::max(1u, std::thread::hardware_concurrency());
  cpu_set_t affinity;
  if (sched_getaffinity(0, sizeof(affinity), &affinity) == 0)
    threads = std::min(threads, CPU_COUNT(&affinity));
  const double quota = CgroupCpus();
  if (std::isfinite(quota)) threads = std::min(threads, static_cast<int>(std::ceil(quota)));
  return std::max(1, threads);
}

int64_t AvailableMemoryBytes() { return std::min(CgroupMemoryLeft(), SystemMemoryAvailable()); }

}  // namespace yoio
