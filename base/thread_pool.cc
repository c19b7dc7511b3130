#include "base/thread_pool.h"

#include "base/check.h"
#include "base/cpu_relax.h"

namespace yoio {
namespace {

// About 20 us on a current core: longer than the gap between two operations of one step, shorter than a
// scheduler tick.
constexpr int kSpins = 4000;

}  // namespace

ThreadPool::ThreadPool(int num_threads) {
  YOIO_CHECK_GE(num_threads, 1);
  for (int thread = 1; thread < num_threads; ++thread) {
    threads_.emplace_back([this, thread] { WorkerLoop(thread); });
  }
}

ThreadPool::~ThreadPool() {
  stop_.store(true);
  {
    MutexLock lock(mutex_);
    wake_.NotifyAll();
  }
  for (std::thread& thread : threads_) thread.join();
}

void ThreadPool::RunOnAll(absl::FunctionRef<void(int)> body) {
  if (threads_.empty()) {
    body(0);
    return;
  }
  body_ = &body;
  running_.store(static_cast<int>(threads_.size()), std::memory_order_relaxed);
  generation_.fetch_add(1);  // publishes body_ and running_
  if (sleepers_.load() > 0) {
    MutexLock lock(mutex_);
    wake_.NotifyAll();
  }
  body(0);
  for (int spins = 0; running_.load(std::memory_order_acquire) != 0; ++spins) {
    if (spins < kSpins) {
      CpuRelax();
    } else {
      std::this_thread::yield();  // more threads than cores: let a worker run
    }
  }
  body_ = nullptr;
}

void ThreadPool::ParallelFor(int64_t count, absl::FunctionRef<void(int64_t)> body) {
  if (threads_.empty() || count <= 1) {
    for (int64_t i = 0; i < count; ++i) body(i);
    return;
  }
  std::atomic<int64_t> next{0};
  RunOnAll([&](int) {
    for (int64_t i = next.fetch_add(1, std::memory_order_relaxed); i < count;
         i = next.fetch_add(1, std::memory_order_relaxed)) {
      body(i);
    }
  });
}

void ThreadPool::WorkerLoop(int thread) {
  uint64_t seen = 0;
  for (;;) {
    for (int spins = 0; spins < kSpins && generation_.load(std::memory_order_acquire) == seen; ++spins) {
      if (stop_.load(std::memory_order_relaxed)) return;
      CpuRelax();
    }
    if (generation_.load() == seen) {
      sleepers_.fetch_add(1);
      {
        MutexLock lock(mutex_);
        while (generation_.load() == seen && !stop_.load()) wake_.Wait(mutex_);
      }
      sleepers_.fetch_sub(1);
    }
    if (stop_.load()) return;
    ++seen;
    (*body_)(thread);
    running_.fetch_sub(1, std::memory_order_release);
  }
}

}  // namespace yoio
