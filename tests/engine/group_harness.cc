#include "tests/engine/group_harness.h"

#include <utility>
#include <vector>

#include "engine/create.h"
#include "engine/follower.h"
#include "tests/engine/engine_harness.h"

namespace yoio::test {

FollowerThread::FollowerThread(MemoryDoorway& doorway, const EngineOptions& options,
                               std::optional<Devices> devices) {
  auto pipe = doorway.Knock(link_);
  thread_ = std::thread([this, options, devices = std::move(devices), pipe = std::move(pipe)]() mutable {
    const auto on_ready = [this] { ready_ = true; };
    end_ = devices.has_value() ? RunFollower(options, *std::move(devices), std::move(pipe), on_ready)
                               : RunFollower(options, std::move(pipe), on_ready);
  });
}

absl::Status FollowerThread::Join() {
  if (thread_.joinable()) thread_.join();
  return end_;
}

EngineOptions GroupOptionsFor(int nnodes, int ranks_per_node) {
  EngineOptions options = MicroOptions();
  options.device = Device::kCpu;
  options.nnodes = nnodes;
  options.tensor_parallel_size = nnodes * ranks_per_node;
  options.group_host = "127.0.0.1";
  options.version = "1.2.3";
  options.load_timeout = std::chrono::seconds(30);
  options.check_index = true;
  return options;
}

EngineOptions FollowerOptions(EngineOptions options, int node_rank) {
  options.node_rank = node_rank;
  options.doorway = nullptr;
  // All that the leader decides, otherwise than it does.
  options.kv_cache_bytes = 1 << 20;
  options.max_sequences = 1;
  options.max_model_len = 100;
  options.max_step_tokens = 1;
  options.max_output_rows = 1;
  options.pipeline_depth = 1;
  options.step_timeout = std::chrono::hours(1);
  options.check_index = false;
  return options;
}

Devices HangingDevices(int count, int hanging, std::shared_ptr<Gate> gate) {
  std::vector<std::unique_ptr<kernels::Backend>> backends;
  for (int rank = 0; rank < count; ++rank) {
    backends.push_back(*kernels::MakeBackend(kernels::DeviceKind::kCpu, 0));
    if (rank == hanging) {
      backends.back() = std::make_unique<HangingBackend>(std::move(backends.back()), gate);
    }
  }
  return Devices(kernels::DeviceKind::kCpu, std::move(backends));
}

}  // namespace yoio::test
