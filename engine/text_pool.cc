#include "engine/text_pool.h"

#include <utility>

#include "base/check.h"

namespace yoio {

TextPool::TextPool(int num_threads, size_t queue_capacity) : queue_capacity_(queue_capacity) {
  YOIO_CHECK_GE(num_threads, 1);
  for (int thread = 0; thread < num_threads; ++thread) {
    threads_.emplace_back([this] { ThreadLoop(); });
  }
}

TextPool::~TextPool() {
  {
    MutexLock lock(mutex_);
    closing_ = true;
    changed_.NotifyAll();
  }
  for (std::thread& thread : threads_) thread.join();
}

bool TextPool::TryRun(std::function<void()> work) {
  MutexLock lock(mutex_);
  if (queue_.size() >= queue_capacity_) return false;
  Push(std::move(work));
  return true;
}

void TextPool::Run(std::function<void()> work) {
  MutexLock lock(mutex_);
  Push(std::move(work));
}

void TextPool::Push(std::function<void()> work) {
  queue_.push_back(std::move(work));
  changed_.NotifyOne();
}

void TextPool::ThreadLoop() {
  mutex_.Lock();
  for (;;) {
    // Work that runs may add more: the last thread leaves only when nothing runs either.
    while (queue_.empty() && !(closing_ && running_ == 0)) changed_.Wait(mutex_);
    if (queue_.empty()) break;
    std::function<void()> work = std::move(queue_.front());
    queue_.pop_front();
    ++running_;
    mutex_.Unlock();
    work();
    work = nullptr;  // what it holds dies outside the lock
    mutex_.Lock();
    if (--running_ == 0 && closing_) changed_.NotifyAll();
  }
  mutex_.Unlock();
}

}  // namespace yoio
