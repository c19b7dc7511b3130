// The thread that begins the writes of streams.
#ifndef YOIO_SERVER_DELIVERY_THREAD_H_
#define YOIO_SERVER_DELIVERY_THREAD_H_

#include <memory>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "base/mutex.h"

namespace yoio {

// Whoever fills an outbox, as a rule a thread of the text pool, only leaves word here and does no work of
// gRPC. The tokens of a step come together; their writes begin here one behind the other, while gRPC's threads
// are still at the first of a connection, and so go out together: with TLS one record for several. Costs a
// stream that is alone one more change of threads.
class DeliveryThread {
 public:
  // What is to be done for one stream.
  class Delivery {
   public:
    virtual ~Delivery() = default;
    // On the delivery thread. Must not block.
    virtual void Deliver() = 0;
  };

  DeliveryThread();
  // Delivers what is left.
  ~DeliveryThread();
  DeliveryThread(const DeliveryThread&) = delete;
  DeliveryThread& operator=(const DeliveryThread&) = delete;

  // In the order of the calls. Any thread; never blocks. At most one waits for each stream.
  void Schedule(std::shared_ptr<Delivery> delivery);

 private:
  void Run();

  Mutex mutex_;
  CondVar scheduled_;
  std::vector<std::shared_ptr<Delivery>> waiting_ ABSL_GUARDED_BY(mutex_);
  bool closing_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;  // last: it uses the others
};

}  // namespace yoio

#endif  // YOIO_SERVER_DELIVERY_THREAD_H_
