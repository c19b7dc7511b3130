// The threads that tokenize, detokenize and match stop strings.
#ifndef YOIO_ENGINE_TEXT_POOL_H_
#define YOIO_ENGINE_TEXT_POOL_H_

#include <cstddef>
#include <deque>
#include <functional>
#include <thread>
#include <vector>

#include "base/mutex.h"

namespace yoio {

// A few threads over one queue, first in first out. Thread-safe; nothing here blocks. Owned by the engine.
class TextPool {
 public:
  // `num_threads` >= 1; `queue_capacity` bounds what TryRun may leave waiting.
  TextPool(int num_threads, size_t queue_capacity);
  // Runs what is queued, then joins. Work may still be added by work that runs.
  ~TextPool();
  TextPool(const TextPool&) = delete;
  TextPool& operator=(const TextPool&) = delete;

  // False when `queue_capacity` or more are waiting; `work` is then not run.
  bool TryRun(std::function<void()> work);

  // For work whose number is bounded by something else (one per live request): always taken.
  void Run(std::function<void()> work);

 private:
  void ThreadLoop();
  void Push(std::function<void()> work) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const size_t queue_capacity_;
  Mutex mutex_;
  CondVar changed_;
  std::deque<std::function<void()>> queue_ ABSL_GUARDED_BY(mutex_);
  int running_ ABSL_GUARDED_BY(mutex_) = 0;
  bool closing_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::thread> threads_;
};

}  // namespace yoio

#endif  // YOIO_ENGINE_TEXT_POOL_H_
