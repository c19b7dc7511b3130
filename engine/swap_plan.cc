#include "engine/swap_plan.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "engine/model/kv_cache.h"
#include "engine/model/weights.h"

namespace yoio {
namespace {

// Beyond it, what is brought back has often been waited for longer than computing it again takes; and memory
// that is pinned for it is lost to everybody else on the host.
constexpr int64_t kMostDefaultBytes = int64_t{4} << 30;
constexpr int64_t kDefaultDivisor = 8;

}  // namespace

int64_t SwapBytes(const EngineOptions& options, const DeviceMemory& devices) {
  if (options.swap_bytes >= 0) return options.swap_bytes;
  if (!devices.asynchronous) return 0;
  return std::min(kMostDefaultBytes, devices.host_available / kDefaultDivisor);
}

absl::Status PlanSwap(const EngineOptions& options, const ModelConfig& config, const DeviceMemory& devices,
                      Sizing& sizing) {
  if (options.swap_bytes < -1) {
    return absl::InvalidArgumentError(
        absl::StrCat("--swap-bytes must be at least 0, or auto, got ", options.swap_bytes));
  }
  int64_t block = 0, ring = 0;  // of the rank with the largest
  for (int rank = 0; rank < options.tensor_parallel_size; ++rank) {
    YOIO_ASSIGN_OR_RETURN(const Shard shard, Shard::Make(config, rank, options.tensor_parallel_size,
                                                         options.index_sharding == IndexSharding::kRows));
    block = std::max(block, BytesPerBlock(config, shard, devices.activations));
    ring = std::max(ring, BytesPerRing(config, shard, devices.activations));
  }
  const int64_t bytes = SwapBytes(options, devices);
  if (bytes < ring + std::max<int64_t>(block, 1)) return absl::OkStatus();
  CacheGeometry& cache = sizing.cache;
  const int64_t rings = ring == 0 ? cache.max_sequences : std::max<int64_t>(bytes / 2 / ring, 1);
  cache.host_rings = static_cast<int32_t>(std::min<int64_t>(rings, cache.max_sequences));
  const int64_t left = bytes - cache.host_rings * ring;
  cache.host_blocks =
      static_cast<int32_t>(block == 0 ? cache.num_blocks : std::min<int64_t>(left / block, cache.num_blocks));
  sizing.memory.swap_bytes = cache.host_rings * ring + cache.host_blocks * block;
  return absl::OkStatus();
}

}  // namespace yoio
