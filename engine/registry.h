// The ids of live requests.
#ifndef YOIO_ENGINE_REGISTRY_H_
#define YOIO_ENGINE_REGISTRY_H_

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "engine/live_request.h"

namespace yoio {

// An id is taken from Add to Remove, within its tenant. Thread-safe.
class Registry {
 public:
  // ALREADY_EXISTS for a live id; the status given to Close after it.
  absl::Status Add(const std::shared_ptr<LiveRequest>& live);
  void Remove(const LiveRequest& live);
  // Null when no such request lives.
  std::shared_ptr<LiveRequest> Find(std::string_view tenant, std::string_view id) const;

  // Those that live, in no order.
  std::vector<std::shared_ptr<LiveRequest>> All() const;

  // From now on Add returns `status`.
  void Close(absl::Status status);
  bool closed() const;
  // Blocks until nothing lives; false at `deadline`.
  bool WaitUntilEmpty(TimePoint deadline);

 private:
  using Key = std::pair<std::string, std::string>;

  mutable Mutex mutex_;
  CondVar emptied_;
  absl::flat_hash_map<Key, std::shared_ptr<LiveRequest>> live_ ABSL_GUARDED_BY(mutex_);
  absl::Status closed_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace yoio

#endif  // YOIO_ENGINE_REGISTRY_H_
