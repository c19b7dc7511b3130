// Ends calls whose clients do not take what is left for them.
#ifndef YOIO_SERVER_CUT_OFF_H_
#define YOIO_SERVER_CUT_OFF_H_

#include <grpcpp/alarm.h>

#include <optional>

#include "base/clock.h"

namespace grpc {
class CallbackServerContext;
}

namespace yoio {

// A client that keeps its windows closed takes neither the last messages nor the status, and its call would
// live as long as its connection. Owned by the call's reactor; not thread-safe.
class CutOff {
 public:
  // Resets the stream of `context`'s call unless this object dies within `patience`. Once.
  void Start(grpc::CallbackServerContext& context, Duration patience);
  bool started() const { return alarm_.has_value(); }

 private:
  std::optional<grpc::Alarm> alarm_;
};

}  // namespace yoio

#endif  // YOIO_SERVER_CUT_OFF_H_
