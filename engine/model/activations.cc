#include "engine/model/activations.h"

#include <array>
#include <utility>

#include "base/status.h"

namespace yoio {
namespace {

using Sizes = std::array<std::pair<kernels::Buffer Activations::*, int64_t>, 17>;  // bytes of each buffer

Sizes Measure(const ModelConfig& config, const Shard& shard, const StepLimits& limits, int32_t max_model_len,
              kernels::DType type) {
  const int64_t wide = 4, element = static_cast<int64_t>(SizeOf(type));
  const int64_t tokens = limits.max_step_tokens, rows = limits.max_output_rows, hidden = config.hidden_size;
  const int64_t q = static_cast<int64_t>(shard.heads) * config.head_dim;
  const int64_t kv = static_cast<int64_t>(shard.kv_heads) * config.head_dim;
  const int64_t dim = config.plan.indexers.empty() ? 0 : config.index_head_dim;
  const int64_t top_k = config.plan.indexers.empty() ? 0 : config.index_topk;
  const bool indexes = dim > 0 && shard.indexes();
  // Ranks that index a part of the rows each take parts of one size.
  const int64_t shared_rows = rows + shard.index_ranks - 1;
  return {{{&Activations::x, tokens * hidden * wide},
           {&Activations::h, tokens * hidden * element},
           {&Activations::delta, tokens * hidden * element},
           {&Activations::qkv, tokens * (q + 2 * kv) * element},
           {&Activations::attended, tokens * q * element},
           {&Activations::gate_up, tokens * 2 * shard.ffn * element},
           {&Activations::ffn, tokens * shard.ffn * element},
           {&Activations::rope_cos, tokens * config.head_dim / 2 * wide},
           {&Activations::rope_sin, tokens * config.head_dim / 2 * wide},
           {&Activations::output_x, rows * hidden * wide},
           {&Activations::output_h, rows * hidden * element},
           {&Activations::index_keys, indexes ? tokens * dim * element : 0},
           {&Activations::index_q, indexes ? kIndexTile * dim * element : 0},
           {&Activations::index_scores, indexes ? int64_t{kIndexTile} * max_model_len * wide : 0},
           {&Activations::index_positions, indexes ? rows * top_k * wide : 0},
           {&Activations::index_slots, shared_rows * top_k * wide},
           {&Activations::logits, int64_t{kLogitsTile} * shard.vocab_stride * wide}}};
}

}  // namespace

absl::Status Activations::Allocate(const ModelConfig& config, const Shard& shard, const StepLimits& limits,
                                   int32_t max_model_len, kernels::Backend& backend) {
  for (const auto& [buffer, bytes] :
       Measure(config, shard, limits, max_model_len, backend.activation_type())) {
    if (bytes == 0) continue;
    YOIO_ASSIGN_OR_RETURN(this->*buffer, backend.Allocate(bytes));
  }
  return absl::OkStatus();
}

int64_t Activations::Bytes(const ModelConfig& config, const Shard& shard, const StepLimits& limits,
                           int32_t max_model_len, kernels::DType type) {
  int64_t total = 0;
  for (const auto& [buffer, bytes] : Measure(config, shard, limits, max_model_len, type)) total += bytes;
  return total;
}

}  // namespace yoio
