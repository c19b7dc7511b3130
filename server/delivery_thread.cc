#include "server/delivery_thread.h"

#include <utility>

namespace yoio {

DeliveryThread::DeliveryThread() : thread_([this] { Run(); }) {}

DeliveryThread::~DeliveryThread() {
  {
    MutexLock lock(mutex_);
    closing_ = true;
    scheduled_.NotifyOne();
  }
  thread_.join();
}

void DeliveryThread::Schedule(std::shared_ptr<Delivery> delivery) {
  MutexLock lock(mutex_);
  waiting_.push_back(std::move(delivery));
  if (waiting_.size() == 1) scheduled_.NotifyOne();  // else it has been told
}

void DeliveryThread::Run() {
  std::vector<std::shared_ptr<Delivery>> taken;
  while (true) {
    {
      MutexLock lock(mutex_);
      while (waiting_.empty() && !closing_) scheduled_.Wait(mutex_);
      if (waiting_.empty()) return;
      taken.swap(waiting_);
    }
    for (const std::shared_ptr<Delivery>& delivery : taken) delivery->Deliver();
    taken.clear();
  }
}

}  // namespace yoio
