// Notices that files have changed.
#ifndef YOIO_SERVER_FILE_WATCH_H_
#define YOIO_SERVER_FILE_WATCH_H_

#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "base/mutex.h"

namespace yoio {

// Looks at some files again and again, by a thread of its own, from its construction to its destruction.
class FileWatch {
 public:
  static constexpr Duration kInterval = std::chrono::seconds(1);

  // `on_change` is called by the thread after one of `paths` was written, replaced, or given other rights;
  // through links, so that a directory of links that are switched over together counts too.
  FileWatch(std::vector<std::string> paths, std::function<void()> on_change, Duration interval = kInterval);
  ~FileWatch();

 private:
  void Run(std::string stamp);

  const std::vector<std::string> paths_;
  const std::function<void()> on_change_;
  const Duration interval_;
  Mutex mutex_;
  CondVar changed_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace yoio

#endif  // YOIO_SERVER_FILE_WATCH_H_
