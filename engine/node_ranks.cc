#include "engine/node_ranks.h"

#include <algorithm>

#include "absl/strings/str_format.h"
#include "base/host_resources.h"
#include "base/status.h"
#include "engine/model/weights.h"

namespace yoio {

absl::StatusOr<NodeRanks> CheckNodes(const EngineOptions& options, const ModelConfig& config) {
  const int world = options.tensor_parallel_size;
  YOIO_RETURN_IF_ERROR(Shard::Make(config, /*rank=*/0, world).status());
  if (options.nnodes < 1) {
    return absl::InvalidArgumentError(absl::StrFormat("--nnodes must be at least 1, got %d", options.nnodes));
  }
  if (options.node_rank < 0 || options.node_rank >= options.nnodes) {
    return absl::InvalidArgumentError(absl::StrFormat("--node-rank must lie in [0, --nnodes %d), got %d",
                                                      options.nnodes, options.node_rank));
  }
  if (world % options.nnodes != 0) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "--tensor-parallel-size %d must be a multiple of --nnodes %d: nodes share the ranks evenly", world,
        options.nnodes));
  }
  const int count = world / options.nnodes;
  return NodeRanks{.world = world, .first = options.node_rank * count, .count = count};
}

int ThreadsOf(const EngineOptions& options, const NodeRanks& ranks) {
  return std::max(ranks.count, options.threads > 0 ? options.threads : AvailableThreads());
}

}  // namespace yoio
