// A fork-join pool for data-parallel loops of a few microseconds.
#ifndef YOIO_BASE_THREAD_POOL_H_
#define YOIO_BASE_THREAD_POOL_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <thread>
#include <vector>

#include "absl/functional/function_ref.h"
#include "base/mutex.h"

namespace yoio {

// Runs one loop at a time over `num_threads` threads, the caller being one of them. Owned and called by a
// single thread. Workers spin for a moment after each loop, so that the next one starts without a system
// call, then sleep.
class ThreadPool {
 public:
  // `num_threads` >= 1; one means that everything runs on the caller.
  explicit ThreadPool(int num_threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int num_threads() const { return static_cast<int>(threads_.size()) + 1; }

  // Calls body(thread) once on every thread, with thread in [0, num_threads), and returns when all have
  // returned.
  void RunOnAll(absl::FunctionRef<void(int thread)> body);

  // Calls body(i) for every i in [0, count), each on some thread; which one is decided as threads become
  // free. Use it where the cost of i varies; the result must not depend on the thread.
  void ParallelFor(int64_t count, absl::FunctionRef<void(int64_t i)> body);

 private:
  void WorkerLoop(int thread);

  const absl::FunctionRef<void(int)>* body_ = nullptr;  // valid while a loop runs
  std::atomic<uint64_t> generation_{0};                 // rises by one with each loop
  std::atomic<int> running_{0};                         // workers that have not finished the current loop
  std::atomic<int> sleepers_{0};
  std::atomic<bool> stop_{false};
  Mutex mutex_;
  CondVar wake_;
  std::vector<std::thread> threads_;
};

}  // namespace yoio

#endif  // YOIO_BASE_THREAD_POOL_H_
