#include "server/file_watch.h"

#include <sys/stat.h>

#include <utility>

#include "absl/strings/str_cat.h"

namespace yoio {
namespace {

// Differs after any change of the files.
std::string StampOf(const std::vector<std::string>& paths) {
  std::string stamp;
  for (const std::string& path : paths) {
    struct stat info {};
    if (stat(path.c_str(), &info) != 0) {
      absl::StrAppend(&stamp, "none;");
      continue;
    }
    absl::StrAppend(&stamp, info.st_dev, ",", info.st_ino, ",", info.st_size, ",", info.st_ctim.tv_sec, ",",
                    info.st_ctim.tv_nsec, ";");
  }
  return stamp;
}

}  // namespace

FileWatch::FileWatch(std::vector<std::string> paths, std::function<void()> on_change, Duration interval)
    : paths_(std::move(paths)), on_change_(std::move(on_change)), interval_(interval) {
  thread_ = std::thread([this, stamp = StampOf(paths_)] { Run(stamp); });
}

FileWatch::~FileWatch() {
  {
    MutexLock lock(mutex_);
    stopping_ = true;
    changed_.NotifyAll();
  }
  thread_.join();
}

void FileWatch::Run(std::string stamp) {
  while (true) {
    {
      MutexLock lock(mutex_);
      const TimePoint next = Clock::now() + interval_;
      while (!stopping_ && Clock::now() < next) changed_.WaitUntil(mutex_, next);
      if (stopping_) return;
    }
    std::string now = StampOf(paths_);
    if (now == stamp) continue;
    stamp = std::move(now);
    on_change_();
  }
}

}  // namespace yoio
