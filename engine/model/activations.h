// Every intermediate of a step, allocated once for the largest step and narrowed to the rows of each.
#ifndef YOIO_ENGINE_MODEL_ACTIVATIONS_H_
#define YOIO_ENGINE_MODEL_ACTIVATIONS_H_

#include <cstdint>

#include "absl/status/status.h"
#include "engine/model/plan.h"
#include "engine/model/step_inputs.h"
#include "engine/model/weights.h"
#include "kernels/backend.h"

namespace yoio {

// The indexer and the logits run in tiles of rows, so that scoring a long prompt needs no more memory than a
// step.
inline constexpr int kIndexTile = 32;
inline constexpr int kLogitsTile = 64;

// Elements are activations unless a type stands beside them.
struct Activations {
  kernels::Buffer x;             // [tokens, hidden] the residual, float
  kernels::Buffer h;             // [tokens, hidden] its norm; after the memory's layer, m
  kernels::Buffer delta;         // [tokens, hidden] what a block adds to the residual
  kernels::Buffer qkv;           // [tokens, (heads + 2 kv_heads) * head_dim]
  kernels::Buffer attended;      // [tokens, heads * head_dim]
  kernels::Buffer gate_up;       // [tokens, 2 ffn]
  kernels::Buffer ffn;           // [tokens, ffn]
  kernels::Buffer rope_cos;      // [tokens, head_dim / 2] float
  kernels::Buffer rope_sin;      // as rope_cos
  kernels::Buffer output_x;      // [output rows, hidden] the residual of the output rows, float
  kernels::Buffer output_h;      // [output rows, hidden] h of the output rows as the last 'all' layer left it
  kernels::Buffer index_keys;    // [tokens, index dim]
  kernels::Buffer index_q;       // [kIndexTile, index dim]
  kernels::Buffer index_scores;  // [kIndexTile, max_model_len] float
  kernels::Buffer index_positions;  // [output rows, top_k] int32
  kernels::Buffer index_slots;  // [output rows, and so many that ranks index parts of one size, top_k] int32
  kernels::Buffer logits;       // [kLogitsTile, vocab stride] float

  // RESOURCE_EXHAUSTED when the device has no room.
  absl::Status Allocate(const ModelConfig& config, const Shard& shard, const StepLimits& limits,
                        int32_t max_model_len, kernels::Backend& backend);
  // What Allocate would take with activations of `type`.
  static int64_t Bytes(const ModelConfig& config, const Shard& shard, const StepLimits& limits,
                       int32_t max_model_len, kernels::DType type);
};

}  // namespace yoio

#endif  // YOIO_ENGINE_MODEL_ACTIVATIONS_H_
