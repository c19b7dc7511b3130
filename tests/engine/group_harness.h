// An engine of several processes, each follower of which is a thread.
#ifndef YOIO_TESTS_ENGINE_GROUP_HARNESS_H_
#define YOIO_TESTS_ENGINE_GROUP_HARNESS_H_

#include <atomic>
#include <memory>
#include <optional>
#include <thread>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/devices.h"
#include "engine/engine.h"
#include "tests/engine/hanging_backend.h"
#include "tests/engine/memory_pipe.h"

namespace yoio::test {

// A follower on a thread of its own.
class FollowerThread {
 public:
  // Knocks at `doorway`. On the devices that `options` name, or on `devices`.
  FollowerThread(MemoryDoorway& doorway, const EngineOptions& options,
                 std::optional<Devices> devices = std::nullopt);
  ~FollowerThread() { Join().IgnoreError(); }

  // Its pipe breaks, as when its process or the way to it is lost.
  void Cut() { link_->Break(absl::UnavailableError("the connection is lost")); }
  bool ready() const { return ready_; }
  // What RunFollower has returned, once it has.
  absl::Status Join();

 private:
  const std::shared_ptr<MemoryLink> link_ = std::make_shared<MemoryLink>();
  std::atomic<bool> ready_{false};
  absl::Status end_;
  std::thread thread_;
};

// MicroOptions for `nnodes` nodes with `ranks_per_node` ranks each, that meet over sockets of this machine
// and compare their indexes.
EngineOptions GroupOptionsFor(int nnodes, int ranks_per_node);
// The same for one of its followers.
EngineOptions FollowerOptions(EngineOptions options, int node_rank);

// One CPU for each of `count` ranks, that of `hanging` behind `gate`.
Devices HangingDevices(int count, int hanging, std::shared_ptr<Gate> gate);

}  // namespace yoio::test

#endif  // YOIO_TESTS_ENGINE_GROUP_HARNESS_H_
