#include "engine/node.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "engine/checkpoint/config.h"

namespace yoio {
namespace {

constexpr char kDummyModel[] = "dummy";
// Once all processes know where to meet they come at once.
constexpr Duration kMeetTimeout = std::chrono::minutes(1);

const char* NameOf(kernels::DeviceKind device) {
  return device == kernels::DeviceKind::kCuda ? "cuda" : "cpu";
}

absl::StatusOr<Node> Open(const EngineOptions& options, ModelConfig config, NodeRanks ranks,
                          Devices devices) {
  YOIO_ASSIGN_OR_RETURN(DeviceMemory memory, devices.Memory(ranks));
  absl::StatusOr<std::unique_ptr<Checkpoint>> checkpoint = nullptr;
  if (options.load_format != LoadFormat::kDummy) checkpoint = Checkpoint::Open(options.model_dir);
  return Node{.config = std::make_unique<ModelConfig>(std::move(config)),
              .checkpoint = std::move(checkpoint),
              .ranks = ranks,
              .devices = std::move(devices),
              .memory = std::move(memory)};
}

}  // namespace

absl::StatusOr<Node> OpenNode(const EngineOptions& options) {
  YOIO_ASSIGN_OR_RETURN(ModelConfig config, ReadModelConfig(options.model_dir, options.config_override));
  YOIO_ASSIGN_OR_RETURN(const NodeRanks ranks, CheckNodes(options, config));
  YOIO_ASSIGN_OR_RETURN(Devices devices, ChooseDevices(options, config, ranks));
  return Open(options, std::move(config), ranks, std::move(devices));
}

absl::StatusOr<Node> OpenNode(const EngineOptions& options, Devices devices) {
  YOIO_ASSIGN_OR_RETURN(ModelConfig config, ReadModelConfig(options.model_dir, options.config_override));
  YOIO_ASSIGN_OR_RETURN(const NodeRanks ranks, CheckNodes(options, config));
  return Open(options, std::move(config), ranks, std::move(devices));
}

Hello HelloOf(const EngineOptions& options, const Node& node) {
  std::string model;
  if (!node.checkpoint.ok()) {
    model = absl::StrCat("none (", std::string(node.checkpoint.status().message()), ")");
  } else {
    model = *node.checkpoint == nullptr ? kDummyModel : (*node.checkpoint)->fingerprint();
  }
  return {.version = options.version,
          .node_rank = options.node_rank,
          .nnodes = options.nnodes,
          .tensor_parallel_size = options.tensor_parallel_size,
          .model = std::move(model),
          .config_hash = HashOf(*node.config),
          .device = node.devices.kind(),
          .device_name = node.memory.device,
          .available_bytes = node.memory.available,
          .host_bytes = node.memory.host_available};
}

absl::Status CheckFits(const Hello& follower, const Hello& leader) {
  const auto differs = [&](const char* what, const auto& its, const auto& own) {
    return absl::InvalidArgumentError(absl::StrCat(what, " of node ", follower.node_rank, " is ", its,
                                                   ", but that of the leader is ", own));
  };
  if (follower.version != leader.version)
    return differs("the program's version", follower.version, leader.version);
  if (follower.nnodes != leader.nnodes) return differs("--nnodes", follower.nnodes, leader.nnodes);
  if (follower.tensor_parallel_size != leader.tensor_parallel_size) {
    return differs("--tensor-parallel-size", follower.tensor_parallel_size, leader.tensor_parallel_size);
  }
  if (follower.node_rank < 1 || follower.node_rank >= leader.nnodes) {
    return absl::InvalidArgumentError(absl::StrCat("--node-rank of a follower is ", follower.node_rank,
                                                   ", expected 1 to ", leader.nnodes - 1));
  }
  if (follower.available_bytes.size() != leader.available_bytes.size()) {
    return differs("the number of ranks", follower.available_bytes.size(), leader.available_bytes.size());
  }
  if (follower.config_hash != leader.config_hash) {
    return differs("the hash of config.json with --config-override", follower.config_hash,
                   leader.config_hash);
  }
  if (leader.model != kDummyModel && follower.model != leader.model) {
    return differs("the fingerprint of --model", follower.model, leader.model);
  }
  if (follower.device != leader.device) {
    return differs("the device", NameOf(follower.device), NameOf(leader.device));
  }
  return absl::OkStatus();
}

WorkerGroupOptions WorkersOf(const EngineOptions& options, const Node& node) {
  WorkerGroupOptions workers;
  workers.worker.config = node.config.get();
  workers.group.world = node.ranks.world;
  workers.group.first_rank = node.ranks.first;
  workers.group.num_ranks = node.ranks.count;
  if (options.nnodes > 1) workers.group.host = options.group_host;
  workers.group.timeout = std::min(kMeetTimeout, options.load_timeout);
  workers.backends = node.devices.OfRanks(node.ranks.count);
  workers.threads = ThreadsOf(options, node.ranks);
  workers.on_failing = options.on_failing;
  if (options.on_progress) {
    workers.worker.progress = [report = options.on_progress](int64_t done, int64_t total) {
      report("loading weights", done, total);
    };
  }
  return workers;
}

}  // namespace yoio
