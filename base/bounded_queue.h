// A bounded, closable queue between threads.
#ifndef YOIO_BASE_BOUNDED_QUEUE_H_
#define YOIO_BASE_BOUNDED_QUEUE_H_

#include <cstddef>
#include <deque>
#include <optional>
#include <utility>

#include "base/clock.h"
#include "base/mutex.h"

namespace yoio {

// Hands values from any thread to any thread, first in first out. Thread-safe. Owned by whoever joins the two
// threads it connects. After Close nothing enters; what is inside can still be taken.
template <typename T>
class BoundedQueue {
 public:
  explicit BoundedQueue(size_t capacity) : capacity_(capacity) {}

  // Blocks while full. Returns false, and drops `value`, once the queue is closed.
  bool Push(T value) {
    MutexLock lock(mutex_);
    while (values_.size() >= capacity_ && !closed_) changed_.Wait(mutex_);
    if (closed_) return false;
    values_.push_back(std::move(value));
    changed_.NotifyAll();
    return true;
  }

  // Never blocks. Returns false, and leaves `value` as it was, when the queue is full or closed.
  bool TryPush(T& value) {
    MutexLock lock(mutex_);
    if (closed_ || values_.size() >= capacity_) return false;
    values_.push_back(std::move(value));
    changed_.NotifyAll();
    return true;
  }

  // Blocks until a value is there. Returns nullopt once the queue is closed and empty.
  std::optional<T> Pop() {
    MutexLock lock(mutex_);
    while (values_.empty() && !closed_) changed_.Wait(mutex_);
    return TakeFront();
  }

  // Never blocks. Returns nullopt when the queue is empty.
  std::optional<T> TryPop() {
    MutexLock lock(mutex_);
    return TakeFront();
  }

  // Blocks until a value can be taken, the queue is closed, or `deadline` has passed. Returns whether a value
  // can be taken.
  bool WaitUntil(TimePoint deadline) {
    MutexLock lock(mutex_);
    while (values_.empty() && !closed_ && Clock::now() < deadline) changed_.WaitUntil(mutex_, deadline);
    return !values_.empty();
  }

  void Close() {
    MutexLock lock(mutex_);
    closed_ = true;
    changed_.NotifyAll();
  }

  bool closed() const {
    MutexLock lock(mutex_);
    return closed_;
  }

 private:
  std::optional<T> TakeFront() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    std::optional<T> value;
    if (values_.empty()) return value;
    value.emplace(std::move(values_.front()));
    values_.pop_front();
    changed_.NotifyAll();
    return value;
  }

  const size_t capacity_;
  mutable Mutex mutex_;
  CondVar changed_;
  std::deque<T> values_ ABSL_GUARDED_BY(mutex_);
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace yoio

#endif  // YOIO_BASE_BOUNDED_QUEUE_H_
