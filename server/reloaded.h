// What some files say, read again whenever they change.
#ifndef YOIO_SERVER_RELOADED_H_
#define YOIO_SERVER_RELOADED_H_

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "base/mutex.h"
#include "server/file_watch.h"
#include "server/log.h"

namespace yoio {

// The newest good state: files that cannot be used change nothing, and a warning says why. Thread-safe.
template <typename T>
class Reloaded {
 public:
  using Load = std::function<absl::StatusOr<T>()>;

  // Reads `paths` by `load` now, whose error it returns, and later after each change. `flag` names the files
  // in log lines. `log` outlives this.
  static absl::StatusOr<std::unique_ptr<Reloaded>> Open(std::string flag, std::vector<std::string> paths,
                                                        Load load, const Logger& log,
                                                        Duration interval = FileWatch::kInterval) {
    std::unique_ptr<Reloaded> opened(new Reloaded(std::move(flag), std::move(load), log));
    // Watched from before they are read: no change is missed.
    auto watch = std::make_unique<FileWatch>(
        std::move(paths), [reloaded = opened.get()] { reloaded->Reload(); }, interval);
    const absl::Status first = opened->LoadOnce();
    if (!first.ok()) return first;
    opened->watch_ = std::move(watch);
    return opened;
  }

  std::shared_ptr<const T> current() const {
    MutexLock lock(mutex_);
    return current_;
  }

 private:
  Reloaded(std::string flag, Load load, const Logger& log)
      : flag_(std::move(flag)), load_(std::move(load)), log_(log) {}

  absl::Status LoadOnce() {
    MutexLock loading(loading_);
    absl::StatusOr<T> loaded = load_();
    if (!loaded.ok()) return loaded.status();
    auto next = std::make_shared<const T>(*std::move(loaded));
    MutexLock lock(mutex_);
    current_ = std::move(next);
    return absl::OkStatus();
  }

  void Reload() {
    const absl::Status status = LoadOnce();
    if (status.ok()) {
      log_.Write(std::move(LogLine(LogLevel::kInfo, "reloaded").With("flag", flag_)));
    } else {
      log_.Write(std::move(LogLine(LogLevel::kWarning, "not reloaded")
                               .With("flag", flag_)
                               .With("message", std::string(status.message()))));
    }
  }

  const std::string flag_;
  const Load load_;
  const Logger& log_;
  Mutex loading_;  // held from reading to setting, so that the newest is set last
  mutable Mutex mutex_;
  std::shared_ptr<const T> current_ ABSL_GUARDED_BY(mutex_);
  std::unique_ptr<FileWatch> watch_;  // last: its thread uses the rest
};

}  // namespace yoio

#endif  // YOIO_SERVER_RELOADED_H_
