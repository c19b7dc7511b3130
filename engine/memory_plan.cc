#include "engine/memory_plan.h"

#include <algorithm>
#include <limits>

#include "absl/strings/str_format.h"
#include "base/status.h"
#include "engine/model/activations.h"
#include "engine/model/weights.h"
#include "engine/node_ranks.h"
#include "engine/sampler.h"
#include "engine/swap_plan.h"

namespace yoio {
namespace {

using kernels::kBlockTokens;

// Cache slots of tokens are counted in 32 bits.
constexpr int32_t kMostTokens = std::numeric_limits<int32_t>::max();

// Of one step: what a CPU chews in about a second, and what keeps a GPU's matrix units busy.
constexpr int kCpuStepTokens = 512;
constexpr int kGpuStepTokens = 8192;

// Of the cache, what snapshots for the prefix cache may take; and how many make sense: two for each sequence,
// and one for each so many tokens.
constexpr int kSnapshotShare = 8;
constexpr int kSnapshotInterval = 8192;

int32_t BlocksFor(int32_t tokens) { return (tokens + kBlockTokens - 1) / kBlockTokens; }

absl::Status CheckOptions(const EngineOptions& options, const ModelConfig& config) {
  const auto at_least = [](const char* flag, int64_t value, int64_t least) -> absl::Status {
    if (value >= least) return absl::OkStatus();
    return absl::InvalidArgumentError(absl::StrFormat("%s must be at least %d, got %d", flag, least, value));
  };
  YOIO_RETURN_IF_ERROR(at_least("--max-sequences", options.max_sequences, 1));
  YOIO_RETURN_IF_ERROR(at_least("--max-step-tokens", options.max_step_tokens, 0));
  YOIO_RETURN_IF_ERROR(at_least("--max-output-rows", options.max_output_rows, 1));
  YOIO_RETURN_IF_ERROR(at_least("--max-model-len", options.max_model_len, 0));
  YOIO_RETURN_IF_ERROR(at_least("--kv-cache-bytes", options.kv_cache_bytes, 0));
  YOIO_RETURN_IF_ERROR(at_least("--threads", options.threads, 0));
  YOIO_RETURN_IF_ERROR(at_least("--default-max-tokens", options.default_max_tokens, 1));
  if (options.max_model_len > config.max_position_embeddings) {
    return absl::InvalidArgumentError(
        absl::StrFormat("--max-model-len must be at most max_position_embeddings of config.json, %d, got %d",
                        config.max_position_embeddings, options.max_model_len));
  }
  return absl::OkStatus();
}

// Whether what a sequence leaves in the global group is all that another needs to go on from there, but for
// windows: no window layer may depend on it.
bool CanSharePrefixes(const ModelPlan& plan) {
  const auto is_window = [&](const Layer& layer) { return plan.stores[layer.store].window > 0; };
  const auto first_global = std::find_if_not(plan.layers.begin(), plan.layers.end(), is_window);
  return first_global != plan.layers.end() && std::none_of(first_global, plan.layers.end(), is_window);
}

int32_t ReplayTokens(const ModelPlan& plan) {
  int64_t tokens = 0;
  for (const Layer& layer : plan.layers) tokens += plan.stores[layer.store].window;
  return static_cast<int32_t>(std::min<int64_t>(tokens, kMostTokens));
}

// What does not depend on the memory that there is. The rest of it is filled in by the others.
absl::StatusOr<Sizing> SizeSteps(const EngineOptions& options, const ModelConfig& config,
                                 const DeviceMemory& devices) {
  Sizing sizing;
  sizing.max_model_len = options.max_model_len > 0 ? options.max_model_len : config.max_position_embeddings;
  sizing.limits.max_step_tokens = options.max_step_tokens > 0 ? options.max_step_tokens
                                  : devices.asynchronous      ? kGpuStepTokens
                                                              : kCpuStepTokens;
  sizing.limits.max_output_rows = std::min(options.max_output_rows, sizing.limits.max_step_tokens);
  sizing.limits.depth = options.pipeline_depth > 0 ? options.pipeline_depth : devices.asynchronous ? 2 : 1;
  sizing.cache.max_sequences = options.max_sequences;
  sizing.cache.ring_tokens = CacheGeometry::RingTokens(config.plan);
  sizing.prefix_cache = options.prefix_cache && CanSharePrefixes(config.plan);
  sizing.replay_tokens = ReplayTokens(config.plan);
  const int32_t most_rings = kMostTokens / std::max(1, sizing.cache.ring_tokens);
  if (options.max_sequences > most_rings) {
    return absl::InvalidArgumentError(
        absl::StrFormat("--max-sequences must be at most %d, got %d", most_rings, options.max_sequences));
  }
  return sizing;
}

// What one rank needs, in bytes.
struct RankNeeds {
  int64_t weights;
  int64_t activations;
  int64_t ring;   // of one sequence
  int64_t block;  // of the global group
};

absl::StatusOr<RankNeeds> NeedsOf(int rank, const EngineOptions& options, const ModelConfig& config,
                                  const Sizing& sizing, kernels::DType type) {
  YOIO_ASSIGN_OR_RETURN(const Shard shard, Shard::Make(config, rank, options.tensor_parallel_size,
                                                       options.index_sharding == IndexSharding::kRows));
  return RankNeeds{
      .weights = Weights::Bytes(config, shard),
      .activations =
          Activations::Bytes(config, shard, sizing.limits, sizing.max_model_len, type) +
          Sampler::Bytes(shard, config.vocab_size, options.max_sequences, sizing.limits.max_output_rows),
      .ring = BytesPerRing(config, shard, type),
      .block = BytesPerBlock(config, shard, type)};
}

// What a rank's cache may take.
absl::StatusOr<int64_t> CacheBytes(int rank, const EngineOptions& options, const RankNeeds& needs,
                                   const DeviceMemory& devices) {
  if (options.kv_cache_bytes > 0) return options.kv_cache_bytes;
  const int64_t needed = needs.weights + needs.activations;
  // On a CPU, what preempted sequences may have is taken from the same memory.
  const int64_t available =
      devices.available[rank] - (devices.asynchronous ? 0 : SwapBytes(options, devices));
  if (available > needed) return available - needed;
  return absl::ResourceExhaustedError(absl::StrFormat(
      "rank %d of %d needs %d bytes for weights and activations, but after a reserve only %d bytes are its "
      "own on %s: use a smaller model or a larger machine, or lower --max-step-tokens",
      rank, options.tensor_parallel_size, needed, std::max<int64_t>(available, 0), devices.device));
}

// A rank and what its cache may take.
struct RankCache {
  RankNeeds needs;
  int64_t bytes;
};

// How many blocks fit into a rank's cache beside the rings.
absl::StatusOr<int64_t> BlocksOf(const RankCache& cache, const EngineOptions& options, int32_t snapshots) {
  const auto& [needs, cache_bytes] = cache;
  const int64_t left = cache_bytes - needs.ring * (int64_t{options.max_sequences} + snapshots);
  const int64_t blocks = needs.block == 0 ? kMostTokens : left / needs.block;
  if (left > 0 && blocks >= 1) return blocks;
  return absl::ResourceExhaustedError(
      absl::StrFormat("the cache has %d bytes per rank, but %d window rings of %d bytes and one block of %d "
                      "bytes do not fit: lower --max-sequences or raise --kv-cache-bytes",
                      cache_bytes, options.max_sequences, needs.ring, needs.block));
}

// How many snapshots fit on every rank, where `blocks` would fit without them.
int32_t SnapshotsOf(const std::vector<RankCache>& caches, const Sizing& sizing, int64_t blocks) {
  if (!sizing.prefix_cache || sizing.cache.ring_tokens == 0) return 0;
  const int64_t slots = sizing.cache.max_sequences;
  const int64_t longest = std::min<int64_t>(blocks, BlocksFor(sizing.max_model_len));
  int64_t most = std::min(2 * slots + blocks * kBlockTokens / kSnapshotInterval,
                          kMostTokens / sizing.cache.ring_tokens - slots);
  for (const auto& [needs, bytes] : caches) {
    const int64_t beside = bytes - slots * needs.ring - longest * needs.block;
    most = std::min({most, bytes / kSnapshotShare / needs.ring, beside / needs.ring});
  }
  return static_cast<int32_t>(std::max<int64_t>(most, 0));
}

absl::Status TooLong(const Sizing& sizing, int32_t needed, int64_t blocks, int64_t cache_bytes) {
  return absl::ResourceExhaustedError(absl::StrFormat(
      "one sequence of --max-model-len %d needs %d cache blocks, but only %d fit into %d bytes "
      "per rank: lower --max-model-len to at most %d or raise --kv-cache-bytes",
      sizing.max_model_len, needed, blocks, cache_bytes, blocks * kBlockTokens));
}

}  // namespace

int32_t MemoryPlan::SequencesThatFit(int32_t tokens) const {
  return std::min(max_sequences, global_blocks / std::max(1, BlocksFor(tokens)));
}

absl::StatusOr<Sizing> PlanMemory(const EngineOptions& options, const ModelConfig& config,
                                  const DeviceMemory& devices) {
  YOIO_RETURN_IF_ERROR(CheckOptions(options, config));
  YOIO_ASSIGN_OR_RETURN(const NodeRanks ranks, CheckNodes(options, config));
  YOIO_ASSIGN_OR_RETURN(Sizing sizing, SizeSteps(options, config, devices));
  const int32_t whole = BlocksFor(sizing.max_model_len);
  // More blocks than all sequences can fill would never be used.
  int64_t blocks =
      std::min<int64_t>(static_cast<int64_t>(whole) * options.max_sequences, kMostTokens / kBlockTokens);
  int64_t tightest = 0;  // the cache of the rank that `blocks` are those of
  std::vector<RankCache> caches;
  for (int rank = 0; rank < static_cast<int>(devices.available.size()); ++rank) {
    YOIO_ASSIGN_OR_RETURN(const RankNeeds needs, NeedsOf(rank, options, config, sizing, devices.activations));
    YOIO_ASSIGN_OR_RETURN(const int64_t cache_bytes, CacheBytes(rank, options, needs, devices));
    caches.push_back({needs, cache_bytes});
    YOIO_ASSIGN_OR_RETURN(const int64_t fit, BlocksOf(caches.back(), options, /*snapshots=*/0));
    if (fit >= blocks) continue;
    blocks = fit;
    tightest = cache_bytes;
  }
  if (blocks < whole && options.max_model_len > 0) return TooLong(sizing, whole, blocks, tightest);
  if (blocks < whole) sizing.max_model_len = static_cast<int32_t>(blocks * kBlockTokens);
  sizing.cache.num_snapshots = SnapshotsOf(caches, sizing, blocks);
  for (const RankCache& cache : caches) {
    YOIO_ASSIGN_OR_RETURN(const int64_t fit, BlocksOf(cache, options, sizing.cache.num_snapshots));
    blocks = std::min(blocks, fit);
  }
  sizing.cache.num_blocks = static_cast<int32_t>(blocks);
  sizing.cache.max_blocks_per_sequence = BlocksFor(sizing.max_model_len);

  YOIO_ASSIGN_OR_RETURN(const RankNeeds first, NeedsOf(0, options, config, sizing, devices.activations));
  sizing.memory = {
      .device = devices.device,
      .threads = ThreadsOf(options, ranks),
      .ranks = ranks.world,
      .weight_bytes = first.weights,
      .activation_bytes = first.activations,
      .cache_bytes = blocks * first.block + first.ring * (options.max_sequences + sizing.cache.num_snapshots),
      .bytes_per_cached_token = first.block / kBlockTokens,
      .bytes_per_ring = first.ring,
      .global_blocks = static_cast<int32_t>(blocks),
      .max_sequences = options.max_sequences,
      .snapshots = sizing.cache.num_snapshots};
  YOIO_RETURN_IF_ERROR(PlanSwap(options, config, devices, sizing));
  return sizing;
}

}  // namespace yoio
