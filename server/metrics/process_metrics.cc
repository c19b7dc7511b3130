#include "server/metrics/process_metrics.h"

#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <system_error>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "server/metrics/families.h"

namespace yoio {
namespace {

// The words of a file of /proc; none when it cannot be read.
std::vector<std::string> Words(const char* path) {
  std::ifstream file(path);
  return {std::istream_iterator<std::string>(file), std::istream_iterator<std::string>()};
}

double ResidentBytes() {
  const std::vector<std::string> words = Words("/proc/self/statm");
  int64_t pages = 0;
  if (words.size() < 2 || !absl::SimpleAtoi(words[1], &pages)) return 0;
  return static_cast<double>(pages * sysconf(_SC_PAGESIZE));
}

double OpenFiles() {
  std::error_code error;
  std::filesystem::directory_iterator files("/proc/self/fd", error);
  if (error) return 0;
  return static_cast<double>(std::distance(begin(files), end(files)) - 1);  // less the one that reads
}

double MaxFiles() {
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  return static_cast<double>(limit.rlim_cur);
}

double CpuSeconds() {
  timespec used{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
  return static_cast<double>(used.tv_sec) + static_cast<double>(used.tv_nsec) * 1e-9;
}

// Since the epoch.
double StartSeconds() {
  constexpr size_t kStartTime = 19;  // among the words after the command, which may hold blanks
  std::ifstream file("/proc/self/stat");
  const std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  const size_t command_end = text.rfind(") ");
  if (command_end == std::string::npos) return 0;
  const std::vector<std::string> words = absl::StrSplit(text.substr(command_end + 2), ' ');
  int64_t ticks_after_boot = 0;
  if (words.size() <= kStartTime || !absl::SimpleAtoi(words[kStartTime], &ticks_after_boot)) return 0;
  timespec since_boot{};
  clock_gettime(CLOCK_BOOTTIME, &since_boot);
  const double now =
      std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
  const double booted =
      now - static_cast<double>(since_boot.tv_sec) - static_cast<double>(since_boot.tv_nsec) * 1e-9;
  return booted + static_cast<double>(ticks_after_boot) / static_cast<double>(sysconf(_SC_CLK_TCK));
}

}  // namespace

ProcessMetrics::ProcessMetrics() : start_seconds_(StartSeconds()) {}

void ProcessMetrics::Write(Exposition& exposition) const {
  exposition.AddFamily(families::kProcessResidentMemory, ResidentBytes());
  exposition.AddFamily(families::kProcessOpenFds, OpenFiles());
  exposition.AddFamily(families::kProcessMaxFds, MaxFiles());
  exposition.AddFamily(families::kProcessCpu, CpuSeconds());
  exposition.AddFamily(families::kProcessStartTime, start_seconds_);
}

}  // namespace yoio
