// Ends a running call from another thread.
#ifndef YOIO_CLIENT_CANCELLATION_H_
#define YOIO_CLIENT_CANCELLATION_H_

#include <set>

#include "base/mutex.h"

namespace grpc {
class ClientContext;
}

namespace yoio {

// Cancels every call that was given it, now and later. Thread-safe. Owned by the caller of those calls, and
// outlives them.
class Cancellation {
 public:
  Cancellation() = default;
  Cancellation(const Cancellation&) = delete;
  Cancellation& operator=(const Cancellation&) = delete;

  // Returns without waiting for the calls to end. Calling it again does nothing.
  void Cancel();
  bool cancelled() const;

  // Makes `context` end with Cancel, for as long as this object lives. Used by Client around each call.
  class Registration {
   public:
    // `cancellation` may be null: then nothing happens.
    Registration(Cancellation* cancellation, grpc::ClientContext& context);
    ~Registration();
    Registration(const Registration&) = delete;
    Registration& operator=(const Registration&) = delete;

   private:
    Cancellation* const cancellation_;
    grpc::ClientContext& context_;
  };

 private:
  mutable Mutex mutex_;
  bool cancelled_ ABSL_GUARDED_BY(mutex_) = false;
  std::set<grpc::ClientContext*> live_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace yoio

#endif  // YOIO_CLIENT_CANCELLATION_H_
