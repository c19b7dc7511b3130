#include "server/profile_file.h"

#include <utility>

#include "server/atomic_file.h"
#include "server/timeline.h"

namespace yoio {
namespace {

constexpr Duration kPoll = std::chrono::milliseconds(50);

}  // namespace

ProfileFile::ProfileFile(const FlightRecorder* recorder, int steps, const std::string& path,
                         const Logger& log)
    : path_(path), log_(log) {
  if (recorder == nullptr || steps == 0) return;
  window_.emplace(*recorder, steps, TimePoint::max());
  thread_ = std::thread([this, recorder] { WaitAndWrite(*recorder); });
}

ProfileFile::~ProfileFile() {
  {
    MutexLock lock(mutex_);
    stopped_ = true;
    stop_.NotifyAll();
  }
  if (thread_.joinable()) thread_.join();
}

void ProfileFile::WaitAndWrite(const FlightRecorder& recorder) {
  {
    MutexLock lock(mutex_);
    while (!stopped_ && !window_->closed()) stop_.WaitUntil(mutex_, Clock::now() + kPoll);
  }
  const std::vector<StepRecord> steps = window_->Take();
  const absl::Status written = WriteAtomically(path_, RenderTimeline(steps, recorder));
  LogLine line(written.ok() ? LogLevel::kInfo : LogLevel::kWarning, "profile");
  line.With("steps", static_cast<int64_t>(steps.size()));
  if (written.ok()) line.With("file", path_);
  if (!written.ok()) line.With("message", std::string(written.message()));
  log_.Write(std::move(line));
}

}  // namespace yoio
