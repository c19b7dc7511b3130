#include "engine/model/activations.h"

#include <array>
#include <utility>

#include "base/status.h"

namespace yoio {
namespace {

struct Sizes {
  std::array<std::pair<kernels::Buffer Activations::*, int64_t>, 17> words;  // 4-byte elements of each buffer
};

Sizes Measure(const ModelConfig& config, const Shard& shard, const StepLimits& limits,
              int32_t max_model_len) {
  const int64_t tokens = limits.max_step_tokens, rows = limits.max_output_rows, hidden = config.hidden_size;
  const int64_t q = static_cast<int64_t>(shard.heads) * config.head_dim;
  const int64_t kv = static_cast<int64_t>(shard.kv_heads) * config.head_dim;
  const int64_t dim = config.plan.indexers.empty() ? 0 : config.index_head_dim;
  const int64_t top_k = config.plan.indexers.empty() ? 0 : config.index_topk;
  const bool indexes = dim > 0 && shard.rank == 0;
  return {{{{&Activations::x, tokens * hidden},
            {&Activations::h, tokens * hidden},
            {&Activations::delta, tokens * hidden},
            {&Activations::qkv, tokens * (q + 2 * kv)},
            {&Activations::attended, tokens * q},
            {&Activations::gate_up, tokens * 2 * shard.ffn},
            {&Activations::ffn, tokens * shard.ffn},
            {&Activations::rope_cos, tokens * config.head_dim / 2},
            {&Activations::rope_sin, tokens * config.head_dim / 2},
            {&Activations::memory, rows * hidden},
            {&Activations::index_keys, indexes ? tokens * dim : 0},
            {&Activations::index_q, indexes ? kIndexTile * dim : 0},
            {&Activations::index_scores, indexes ? static_cast<int64_t>(kIndexTile) * max_model_len : 0},
            {&Activations::index_positions, indexes ? rows * top_k : 0},
            {&Activations::index_set, rows * (top_k + 1)},
            {&Activations::logits, static_cast<int64_t>(kLogitsTile) * shard.vocab_stride},
            {&Activations::all_logits,
             shard.world > 1 ? static_cast<int64_t>(shard.world) * kLogitsTile * shard.vocab_stride : 0}}}};
}

}  // namespace

absl::Status Activations::Allocate(const ModelConfig& config, const Shard& shard, const StepLimits& limits,
                                   int32_t max_model_len, kernels::Backend& backend) {
  for (const auto& [buffer, words] : Measure(config, shard, limits, max_model_len).words) {
    if (words == 0) continue;
    YOIO_ASSIGN_OR_RETURN(this->*buffer, backend.Allocate(words * 4));
  }
  return absl::OkStatus();
}

int64_t Activations::Bytes(const ModelConfig& config, const Shard& shard, const StepLimits& limits,
                           int32_t max_model_len) {
  int64_t bytes = 0;
  for (const auto& [buffer, words] : Measure(config, shard, limits, max_model_len).words) bytes += words * 4;
  return bytes;
}

}  // namespace yoio
