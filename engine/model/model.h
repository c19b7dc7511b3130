// The forward pass of one rank: walks the layer plan.
#ifndef YOIO_ENGINE_MODEL_MODEL_H_
#define YOIO_ENGINE_MODEL_MODEL_H_

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "engine/comm/communicator.h"
#include "engine/model/activations.h"
#include "engine/model/index_set.h"
#include "engine/model/kv_cache.h"
#include "engine/model/plan.h"
#include "engine/model/step_inputs.h"
#include "engine/model/weights.h"
#include "kernels/backend.h"

namespace yoio {

// Everything a rank computes with. All pointers outlive the model.
struct ModelParts {
  const ModelConfig* config = nullptr;
  Shard shard;
  const Weights* weights = nullptr;
  KvCache* cache = nullptr;
  kernels::Backend* backend = nullptr;
  Communicator* comm = nullptr;
  kernels::Stream* stream = nullptr;
};

// Rank thread only. Every rank calls Forward with the same plan, and reaches the same collectives in the same
// order.
class Model {
 public:
  Model(const ModelParts& parts, const StepLimits& limits);
  absl::Status Allocate();

  // Receives rank 0's logits, a tile of output rows at a time: `logits` is host memory [num_rows, vocab],
  // valid during the call, for the output rows from `first_row` on.
  using LogitsSink = absl::FunctionRef<void(int first_row, int num_rows, const float* logits)>;

  // Runs `plan`. `previous_samples` are the tokens drawn by the step before. Any error is the group's end.
  absl::Status Forward(const StepPlan& plan, const std::vector<int32_t>& previous_samples, LogitsSink sink);

  // For tests: the index of the last step on rank 0, and its positions; [num_output_rows, top_k].
  const IndexSet& last_index() const { return index_; }
  const int32_t* last_index_positions() const { return act_.index_positions.As<int32_t>(); }

 private:
  // The rows of a step that a layer runs on: all of them at first, output rows in the end.
  struct RowSet {
    Rows kind;
    int count;
    int prompt_count;  // leading rows on the blocked product: prompt tokens, in layers that run all rows
  };

  absl::Status Embed();
  void NarrowToOutputRows(int layer);
  void WriteOwnStore(int layer);
  void WriteKv(int store, const float* k, int64_t row_stride, const int32_t* slots);
  void WriteMemoryStore(int store);
  absl::Status SelectTokens(int indexer);
  void SelectTile(int indexer, int first_row, int num_rows, int32_t* count, int32_t* slots);
  void Attend(int layer);
  absl::Status AddAttention(int layer);
  absl::Status AddFeedForward(int layer, const float* next_norm);
  absl::Status AddDelta(const float* norm);
  const float* NormAfter(int layer) const;
  absl::Status Logits(LogitsSink sink);
  const float* JoinShards(const float* all, int num_rows);

  void MatMul(const float* x, const kernels::Matrix& w, float* y, const RowSet& rows);
  bool FirstToName(int layer) const;

  const ModelParts parts_;
  const ModelConfig& config_;
  const StepLimits limits_;
  StepInputs inputs_;
  Activations act_;
  RowSet rows_{};
  IndexSet index_;
  std::vector<float> host_logits_;  // [kLogitsTile, vocab] on rank 0, when shards must be put together
};

}  // namespace yoio

#endif  // YOIO_ENGINE_MODEL_MODEL_H_
