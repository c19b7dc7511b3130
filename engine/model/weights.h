// One rank's share of the weights, on its device.
#ifndef YOIO_ENGINE_MODEL_WEIGHTS_H_
#define YOIO_ENGINE_MODEL_WEIGHTS_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/checkpoint/safetensors.h"
#include "engine/model/plan.h"
#include "kernels/backend.h"

namespace yoio {

// What one rank holds of the whole (docs/architecture.md, "Sharding"): attention by heads, FFN by columns
// then rows, vocabulary by rows.
struct Shard {
  int rank = 0;
  int world = 1;
  int heads = 0;  // query heads of this rank
  int head_begin = 0;
  int kv_heads = 0;  // key/value heads of this rank; ranks share one when there are more ranks than heads
  int kv_head_begin = 0;
  int ffn = 0;
  int ffn_begin = 0;
  int vocab = 0;  // rows of this rank; the last ranks may hold fewer than the others, or none
  int vocab_begin = 0;
  int index_ranks = 1;   // the first so many ranks index: rank 0 all rows, or all ranks a part of them each
  int vocab_stride = 0;  // rows of every rank but perhaps the last ones, and what a row of its logits takes; a
                         // multiple of 8 with several ranks

  // Whether this rank holds index keys and the weights of indexers.
  bool indexes() const { return rank < index_ranks; }

  // INVALID_ARGUMENT naming the count that `world` does not divide.
  static absl::StatusOr<Shard> Make(const ModelConfig& config, int rank, int world,
                                    bool index_by_rows = false);
};

// Norm weights are widened to float; matrices stay as stored. Matrices that multiply the same input lie on
// top of each other, so that one product serves them all.
struct LayerWeights {
  const float* input_norm = nullptr;           // [hidden]
  const float* post_attention_norm = nullptr;  // [hidden]
  kernels::Matrix qkv;      // own store: [(heads + 2 kv_heads) * head_dim, hidden]: q, k, v; else q alone
  kernels::Matrix o;        // [hidden, heads * head_dim]
  kernels::Matrix gate_up;  // [2 ffn, hidden]: gate, up
  kernels::Matrix down;     // [hidden, ffn]
  const float* q_norm = nullptr;  // [head_dim], null without qk_norm
  const float* k_norm = nullptr;  // [head_dim], null without qk_norm or without an own store
};

// A store written from the residual, and the indexer that selects from it.
struct MemoryWeights {
  const float* norm = nullptr;    // [hidden]
  kernels::Matrix kv;             // [2 kv_heads * head_dim, hidden]: k, v
  const float* k_norm = nullptr;  // [head_dim], null without qk_norm
  kernels::Matrix index_q;        // [dim, hidden]; where the rank indexes, empty when dense
  kernels::Matrix index_k;        // [dim, hidden]; as index_q
};

class Weights {
 public:
  using Progress = std::function<void(int64_t bytes_done, int64_t bytes_total)>;

  // Reads this rank's slices. Errors name the tensor and file. `checkpoint` is needed only during the call.
  static absl::StatusOr<std::unique_ptr<Weights>> Load(const ModelConfig& config, const Shard& shard,
                                                       const Checkpoint& checkpoint,
                                                       kernels::Backend& backend, kernels::Stream& stream,
                                                       const Progress& progress);
  // bf16 values drawn from `seed`, alike for every world size, in the range a trained model would have.
  static absl::StatusOr<std::unique_ptr<Weights>> Dummy(const ModelConfig& config, const Shard& shard,
                                                        uint64_t seed, kernels::Backend& backend,
                                                        kernels::Stream& stream, const Progress& progress);
  // Bytes that Load or Dummy would allocate for bf16 matrices.
  static int64_t Bytes(const ModelConfig& config, const Shard& shard);

  kernels::Matrix embedding;  // [vocab of this rank, hidden]
  kernels::Matrix lm_head;    // as embedding; the same matrix when tied
  const float* final_norm = nullptr;
  std::vector<LayerWeights> layers;
  MemoryWeights memory;

 private:
  friend class WeightBuilder;
  std::vector<kernels::Buffer> buffers_;
};

}  // namespace yoio

#endif  // YOIO_ENGINE_MODEL_WEIGHTS_H_
