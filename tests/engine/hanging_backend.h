// A backend that works until it is told to stand still.
#ifndef YOIO_TESTS_ENGINE_HANGING_BACKEND_H_
#define YOIO_TESTS_ENGINE_HANGING_BACKEND_H_

#include <atomic>
#include <limits>
#include <memory>
#include <utility>

#include "base/clock.h"
#include "base/mutex.h"
#include "tests/engine/failing_backend.h"

namespace yoio::test {

// Holds up whoever passes while it is closed, and knows how many may come. Thread-safe.
class Gate {
 public:
  void Join() { Count(+1); }
  void Leave() { Count(-1); }
  // Blocks until all who have joined have left, or until `deadline`; whether they have. What they did before
  // has then happened before the return.
  bool AwaitAlone(TimePoint deadline) {
    MutexLock lock(mutex_);
    while (members_ > 0 && Clock::now() < deadline) changed_.WaitUntil(mutex_, deadline);
    return members_ == 0;
  }

  void Close() { Set(true); }
  void Open() { Set(false); }
  void Pass() {
    MutexLock lock(mutex_);
    while (closed_) changed_.Wait(mutex_);
  }

 private:
  void Count(int change) {
    MutexLock lock(mutex_);
    members_ += change;
    changed_.NotifyAll();
  }
  void Set(bool closed) {
    MutexLock lock(mutex_);
    closed_ = closed;
    changed_.NotifyAll();
  }

  Mutex mutex_;
  CondVar changed_;
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
  int members_ ABSL_GUARDED_BY(mutex_) = 0;
};

// While its gate is closed no look at the end of its work returns: its rank is stuck as in a driver that has
// lost its device.
class HangingBackend final : public FailingBackend {
 public:
  HangingBackend(std::unique_ptr<kernels::Backend> inner, std::shared_ptr<Gate> gate)
      : FailingBackend(std::move(inner), never_), gate_(std::move(gate)) {
    gate_->Join();
  }
  ~HangingBackend() override { gate_->Leave(); }

  absl::StatusOr<bool> Passed(kernels::Event& event) override {
    gate_->Pass();
    return FailingBackend::Passed(event);
  }

 private:
  std::atomic<int> never_{std::numeric_limits<int>::max()};
  const std::shared_ptr<Gate> gate_;
};

}  // namespace yoio::test

#endif  // YOIO_TESTS_ENGINE_HANGING_BACKEND_H_
