// What one process of an engine starts with, the leader as every follower.
#ifndef YOIO_ENGINE_NODE_H_
#define YOIO_ENGINE_NODE_H_

#include <memory>

#include "absl/status/statusor.h"
#include "engine/checkpoint/safetensors.h"
#include "engine/devices.h"
#include "engine/engine.h"
#include "engine/group_messages.h"
#include "engine/memory_plan.h"
#include "engine/model/plan.h"
#include "engine/node_ranks.h"
#include "engine/worker_group.h"

namespace yoio {

struct Node {
  std::unique_ptr<ModelConfig> config;
  absl::StatusOr<std::unique_ptr<Checkpoint>> checkpoint;  // null, or why there is none
  NodeRanks ranks;
  Devices devices;
  DeviceMemory memory;  // of this process's ranks alone
};

// Reads the config, checks flags and devices against it, and opens the weights unless they are to be dummies.
// Errors as Engine::Create's, but for weights that cannot be read: a follower learns later whether it needs
// them.
absl::StatusOr<Node> OpenNode(const EngineOptions& options);
// The same on devices that the caller has made.
absl::StatusOr<Node> OpenNode(const EngineOptions& options, Devices devices);

// What `node` says of itself.
Hello HelloOf(const EngineOptions& options, const Node& node);

// Whether `follower` can work for `leader`. INVALID_ARGUMENT names the setting and what both have.
absl::Status CheckFits(const Hello& follower, const Hello& leader);

// The workers of `node`, which outlives them, as far as it alone decides.
WorkerGroupOptions WorkersOf(const EngineOptions& options, const Node& node);

}  // namespace yoio

#endif  // YOIO_ENGINE_NODE_H_
