// Whether the ranks of one process can go on together.
#ifndef YOIO_ENGINE_COMM_GROUP_END_H_
#define YOIO_ENGINE_COMM_GROUP_END_H_

#include <atomic>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/mutex.h"
#include "engine/comm/socket.h"

namespace yoio {

// What a group ended with; the first End counts. Thread-safe.
class GroupEnd {
 public:
  // RESOURCE_EXHAUSTED when the process has no file left.
  static absl::StatusOr<std::unique_ptr<GroupEnd>> Create();

  void End(absl::Status status);

  bool ended() const { return ended_.load(); }
  // OK until then.
  absl::Status status() const;
  // Readable, for every poll(), once the group has ended.
  int wake_fd() const { return wake_.fd(); }

 private:
  explicit GroupEnd(Socket wake) : wake_(std::move(wake)) {}

  const Socket wake_;  // an eventfd
  std::atomic<bool> ended_{false};
  mutable Mutex mutex_;
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace yoio

#endif  // YOIO_ENGINE_COMM_GROUP_END_H_
