#include "client/cancellation.h"

#include <grpcpp/client_context.h>

namespace yoio {

void Cancellation::Cancel() {
  MutexLock lock(mutex_);
  cancelled_ = true;
  // A context leaves `live_` before it dies, and that needs the lock: every pointer here is alive.
  for (grpc::ClientContext* context : live_) context->TryCancel();
}

bool Cancellation::cancelled() const {
  MutexLock lock(mutex_);
  return cancelled_;
}

Cancellation::Registration::Registration(Cancellation* cancellation, grpc::ClientContext& context)
    : cancellation_(cancellation), context_(context) {
  if (cancellation_ == nullptr) return;
  MutexLock lock(cancellation_->mutex_);
  if (cancellation_->cancelled_) context_.TryCancel();
  cancellation_->live_.insert(&context_);
}

Cancellation::Registration::~Registration() {
  if (cancellation_ == nullptr) return;
  MutexLock lock(cancellation_->mutex_);
  cancellation_->live_.erase(&context_);
}

}  // namespace yoio
