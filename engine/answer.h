// An answer that one thread owes another.
#ifndef YOIO_ENGINE_ANSWER_H_
#define YOIO_ENGINE_ANSWER_H_

#include <optional>
#include <utility>

#include "base/clock.h"
#include "base/mutex.h"

namespace yoio {

// Shared by the two, so that it takes an answer for which nobody waits any more. Thread-safe.
template <typename T>
class Answer {
 public:
  // Once.
  void Set(T value) {
    MutexLock lock(mutex_);
    value_ = std::move(value);
    set_.NotifyOne();
  }

  // Blocks until there is one, or until `deadline`: then there is none. One caller, once.
  std::optional<T> WaitUntil(TimePoint deadline) {
    MutexLock lock(mutex_);
    while (!value_.has_value() && Clock::now() < deadline) set_.WaitUntil(mutex_, deadline);
    return std::move(value_);
  }

 private:
  Mutex mutex_;
  CondVar set_;
  std::optional<T> value_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace yoio

#endif  // YOIO_ENGINE_ANSWER_H_
