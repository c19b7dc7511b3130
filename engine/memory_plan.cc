#include "engine/memory_plan.h"

#include <algorithm>
#include <limits>

#include "absl/strings/str_format.h"
#include "base/host_resources.h"
#include "base/status.h"
#include "engine/model/activations.h"
#include "engine/model/weights.h"
#include "engine/sampler.h"

namespace yoio {
namespace {

using kernels::kBlockTokens;

// Cache slots of tokens are counted in 32 bits.
constexpr int32_t kMostTokens = std::numeric_limits<int32_t>::max();

// Of one step: what a CPU chews in about a second, and what keeps a GPU's matrix units busy.
constexpr int kCpuStepTokens = 512;
constexpr int kGpuStepTokens = 8192;

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

}  // namespace

int32_t MemoryPlan::SequencesThatFit(int32_t tokens) const {
  return std::min(max_sequences, global_blocks / std::max(1, BlocksFor(tokens)));
}

absl::StatusOr<Sizing> PlanMemory(const EngineOptions& options, const ModelConfig& config,
                                  kernels::Backend& backend) {
  YOIO_RETURN_IF_ERROR(CheckOptions(options, config));
  // Rank 0 carries the index keys beside its share: it sets the number of blocks for all.
  YOIO_ASSIGN_OR_RETURN(const Shard shard, Shard::Make(config, 0, options.tensor_parallel_size));
  const int world = options.tensor_parallel_size;
  Sizing sizing;
  sizing.max_model_len = options.max_model_len > 0 ? options.max_model_len : config.max_position_embeddings;
  const bool asynchronous = backend.captures();
  sizing.limits.max_step_tokens = options.max_step_tokens > 0 ? options.max_step_tokens
                                  : asynchronous              ? kGpuStepTokens
                                                              : kCpuStepTokens;
  sizing.limits.max_output_rows = std::min(options.max_output_rows, sizing.limits.max_step_tokens);
  sizing.limits.depth = options.pipeline_depth > 0 ? options.pipeline_depth : asynchronous ? 2 : 1;
  sizing.cache.max_sequences = options.max_sequences;
  sizing.cache.ring_tokens = CacheGeometry::RingTokens(config.plan);
  const int32_t most_rings = kMostTokens / std::max(1, sizing.cache.ring_tokens);
  if (options.max_sequences > most_rings) {
    return absl::InvalidArgumentError(
        absl::StrFormat("--max-sequences must be at most %d, got %d", most_rings, options.max_sequences));
  }

  MemoryPlan& memory = sizing.memory;
  memory.device = std::string(backend.name());
  memory.ranks = world;
  memory.threads = std::max(world, options.threads > 0 ? options.threads : AvailableThreads());
  memory.max_sequences = options.max_sequences;
  memory.weight_bytes = Weights::Bytes(config, shard);
  memory.activation_bytes =
      Activations::Bytes(config, shard, sizing.limits, sizing.max_model_len, backend.activation_type()) +
      Sampler::Bytes(shard, config.vocab_size, options.max_sequences, sizing.limits.max_output_rows);
  memory.bytes_per_ring = BytesPerRing(config, shard, backend.activation_type());
  const int64_t block_bytes = BytesPerBlock(config, shard, backend.activation_type());
  memory.bytes_per_cached_token = block_bytes / kBlockTokens;

  int64_t cache_bytes = options.kv_cache_bytes;
  if (cache_bytes == 0) {
    YOIO_ASSIGN_OR_RETURN(const int64_t available, backend.AvailableBytes());
    const int64_t needed = memory.weight_bytes + memory.activation_bytes;
    cache_bytes = available / world - needed;
    if (cache_bytes <= 0) {
      return absl::ResourceExhaustedError(absl::StrFormat(
          "%d rank(s) need %d bytes each for weights and activations, but after a reserve only %d bytes are "
          "available on %s: use a smaller model or a larger machine, or lower --max-step-tokens",
          world, needed, available, memory.device));
    }
  }
  const int64_t ring_bytes = memory.bytes_per_ring * options.max_sequences;
  const int64_t left = cache_bytes - ring_bytes;
  const int32_t whole = BlocksFor(sizing.max_model_len);
  // More blocks than all sequences can fill would never be used.
  const int64_t useful =
      std::min<int64_t>(static_cast<int64_t>(whole) * options.max_sequences, kMostTokens / kBlockTokens);
  const int64_t blocks = block_bytes == 0 ? useful : std::min(useful, left / block_bytes);
  if (left <= 0 || blocks < 1) {
    return absl::ResourceExhaustedError(
        absl::StrFormat("the cache has %d bytes per rank, but %d window rings of %d bytes and one block of "
                        "%d bytes do not fit: "
                        "lower --max-sequences or raise --kv-cache-bytes",
                        cache_bytes, options.max_sequences, memory.bytes_per_ring, block_bytes));
  }
  if (blocks < whole) {
    if (options.max_model_len > 0) {
      return absl::ResourceExhaustedError(
          absl::StrFormat("one sequence of --max-model-len %d needs %d cache blocks, but only %d fit into %d "
                          "bytes per rank: lower "
                          "--max-model-len to at most %d or raise --kv-cache-bytes",
                          sizing.max_model_len, whole, blocks, cache_bytes, blocks * kBlockTokens));
    }
    sizing.max_model_len = static_cast<int32_t>(blocks * kBlockTokens);
  }
  sizing.cache.num_blocks = static_cast<int32_t>(blocks);
  sizing.cache.max_blocks_per_sequence = BlocksFor(sizing.max_model_len);
  memory.global_blocks = static_cast<int32_t>(blocks);
  memory.cache_bytes = blocks * block_bytes + ring_bytes;
  return sizing;
}

}  // namespace yoio
