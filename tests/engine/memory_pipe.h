// Pipes whose two ends are in one process, and a doorway that they come through.
#ifndef YOIO_TESTS_ENGINE_MEMORY_PIPE_H_
#define YOIO_TESTS_ENGINE_MEMORY_PIPE_H_

#include <deque>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "engine/pipe.h"

namespace yoio::test {

// What the two ends share. Thread-safe.
class MemoryLink {
 public:
  void Send(int end, std::string message) {
    MutexLock lock(mutex_);
    if (!broken_.ok()) return;
    to_[1 - end].push_back(std::move(message));
    changed_.NotifyAll();
  }

  absl::StatusOr<std::string> Receive(int end, TimePoint deadline) {
    MutexLock lock(mutex_);
    while (to_[end].empty() && broken_.ok()) {
      if (Clock::now() >= deadline) return absl::DeadlineExceededError("nothing has come");
      changed_.WaitUntil(mutex_, deadline);
    }
    if (to_[end].empty()) return broken_;
    std::string message = std::move(to_[end].front());
    to_[end].pop_front();
    return message;
  }

  void Break(absl::Status status) {
    MutexLock lock(mutex_);
    if (!broken_.ok()) return;
    broken_ = std::move(status);
    changed_.NotifyAll();
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  std::deque<std::string> to_[2] ABSL_GUARDED_BY(mutex_);  // what waits at each end
  absl::Status broken_ ABSL_GUARDED_BY(mutex_);
};

class MemoryPipe final : public Pipe {
 public:
  MemoryPipe(std::shared_ptr<MemoryLink> link, int end) : link_(std::move(link)), end_(end) {}
  ~MemoryPipe() override { link_->Break(absl::UnavailableError("the other end has gone")); }

  void Send(std::string message) override { link_->Send(end_, std::move(message)); }
  absl::StatusOr<std::string> Receive(TimePoint deadline) override { return link_->Receive(end_, deadline); }
  void Break(absl::Status status) override { link_->Break(std::move(status)); }

 private:
  const std::shared_ptr<MemoryLink> link_;
  const int end_;
};

// Whoever knocks is let in by Accept. Thread-safe.
class MemoryDoorway final : public Doorway {
 public:
  // A new pipe: this end of it. The link beneath serves to cut it.
  std::unique_ptr<Pipe> Knock(std::shared_ptr<MemoryLink> link = std::make_shared<MemoryLink>()) {
    MutexLock lock(mutex_);
    waiting_.push_back(std::make_unique<MemoryPipe>(link, 0));
    changed_.NotifyAll();
    return std::make_unique<MemoryPipe>(link, 1);
  }

  absl::StatusOr<std::unique_ptr<Pipe>> Accept(TimePoint deadline) override {
    MutexLock lock(mutex_);
    while (waiting_.empty()) {
      if (Clock::now() >= deadline) return absl::DeadlineExceededError("nobody has come");
      changed_.WaitUntil(mutex_, deadline);
    }
    std::unique_ptr<Pipe> pipe = std::move(waiting_.front());
    waiting_.pop_front();
    return pipe;
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  std::deque<std::unique_ptr<Pipe>> waiting_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace yoio::test

#endif  // YOIO_TESTS_ENGINE_MEMORY_PIPE_H_
