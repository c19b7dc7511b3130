#include "server/warm_up.h"

#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "base/mutex.h"
#include "base/status.h"
#include "engine/outbox.h"

namespace yoio {
namespace {

// Lets a thread sleep until there is something to take.
class Waiter final : public Transport {
 public:
  void Ready() override {
    MutexLock lock(mutex_);
    ready_ = true;
    changed_.NotifyOne();
  }

  void Wait() {
    MutexLock lock(mutex_);
    while (!ready_) changed_.Wait(mutex_);
    ready_ = false;
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  bool ready_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace

absl::Status WarmUp(Engine& engine) {
  Request request;
  request.id = "warm-up";
  request.prompt = std::vector<int32_t>{0};
  request.temperature = 0.0f;
  request.max_tokens = 2;
  request.stop.ignore_eos = true;
  request.output_text = false;
  request.arrival = Clock::now();
  const auto waiter = std::make_shared<Waiter>();
  const auto outbox = std::make_shared<Outbox>(waiter);
  YOIO_RETURN_IF_ERROR(engine.Submit(std::move(request), outbox));
  while (true) {
    waiter->Wait();
    while (true) {
      Outbox::Taken taken = outbox->Take();
      if (taken.end) return *taken.end;
      if (taken.events.empty()) break;
    }
  }
}

}  // namespace yoio
