// The forward pass of one rank: walks the layer plan.
#ifndef YOIO_ENGINE_MODEL_MODEL_H_
#define YOIO_ENGINE_MODEL_MODEL_H_

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <span>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "engine/comm/communicator.h"
#include "engine/model/activations.h"
#include "engine/model/index_set.h"
#include "engine/model/kv_cache.h"
#include "engine/model/plan.h"
#include "engine/model/step_inputs.h"
#include "engine/model/step_marks.h"
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
  const int32_t* previous_samples = nullptr;  // device memory: the ids that negative token ids name; may be
                                              // null when no plan has such
  StepMarks* marks = nullptr;                 // told of the phases behind kInputs; may be null
  // Steps with at least so many prompt tokens run in two tiles of rows where there are several ranks, so that
  // the sum of one tile's deltas runs beside the products and the attention of the other. 0: where it pays.
  int min_tiled_tokens = 0;
};

// Rank thread only. Every rank calls Forward with the same plan, and reaches the same collectives in the same
// order.
class Model {
 public:
  Model(const ModelParts& parts, const StepLimits& limits);
  // Takes the memory of the largest step. On a device that loads and records work, also runs a prompt of
  // every kind of length, and records the two halves of a step for every usual number of generated rows:
  // about a second. The cache and the first of its slots must be nobody's yet.
  absl::Status Prepare();

  // Receives this rank's logits on every rank alike, a tile of output rows at a time: `logits` is device
  // memory [num_rows, shard.vocab_stride] for the output rows from `first_row` on, of which the columns
  // [0, shard.vocab) are meant. Work that reads it must be queued during the call.
  using LogitsSink = absl::FunctionRef<absl::Status(int first_row, int num_rows, const float* logits)>;

  // Queues `plan`; on a device that computes at once, runs it. Any error is the group's end.
  absl::Status Forward(const StepPlan& plan, LogitsSink sink);

  // Of the last step: whether all its layers ran as they were recorded.
  bool recorded() const { return recorded_; }

  // For tests, once the stream is synchronised: the index of the last step that had output rows, device
  // memory.
  const IndexSet& last_index() const { return index_; }
  // Queries of the tile of rows that this rank has indexed last, [kIndexTile, index dim].
  const kernels::Activation* last_index_queries() const { return act_.index_q.As<kernels::Activation>(); }

 private:
  // A step is walked in two halves: the layers that run all tokens, and those that run output rows.
  enum class Half { kTokens, kOutputs };

  struct RowSet {
    int count;
    int prompt_count;  // leading rows on the blocked product: prompt tokens, in layers that run all rows
    bool one_each;     // every row is its sequence's only one: such steps can be recorded
    int first_tile;    // rows of the first of two tiles; all rows, when there is one
  };

  // Consecutive rows that run a layer together.
  struct Tile {
    int number;
    int begin;
    int count;
    int prompt_count;    // leading rows on the blocked product
    bool summed = true;  // whether the stream has waited for the sum of its deltas
  };

  RowSet TokenRows(const StepPlan& plan) const;
  RowSet Padded(Half half, const RowSet& exact) const;
  void SetRows(Half half, const RowSet& rows);
  std::span<Tile> tiles() { return {tiles_.data(), num_tiles_}; }
  absl::Status Run(Half half, const RowSet& rows);
  absl::Status Walk(Half half);
  absl::Status WarmUp();
  absl::Status Record(Half half, int count);
  StepPhase LayersPhase() const {
    return half_ == Half::kTokens ? StepPhase::kSelfDecoder : StepPhase::kCrossDecoder;
  }
  void Enter(StepPhase left, StepPhase entered);
  void EnterIndex(StepPhase left, StepPhase entered);

  absl::Status Embed();
  void NarrowToOutputRows();
  absl::Status RunLayer(int layer);
  absl::Status ProjectBesideIndex(int layer);
  void Project(int layer, const Tile& tile, kernels::Stream& stream);
  void WriteKv(int store, const kernels::Activation* k, int64_t row_stride, const Tile& tile,
               kernels::Stream& stream);
  void WriteMemoryStore(int store, const Tile& tile);
  void WriteIndexKeys(int indexer, const Tile& tile);
  absl::Status SelectTokens(int indexer);
  void SelectTile(int indexer, int first_row, int num_rows);
  void Attend(int layer, const Tile& tile);
  void AttendWindow(int layer, const Tile& tile);
  absl::Status AddAttention(int layer, Tile& tile);
  absl::Status AddFeedForward(int layer, Tile& tile);
  absl::Status AddDelta(Tile& tile, const float* norm, bool starts = false);
  void AwaitSum(const Tile& tile);
  const float* NormAfter(int layer) const;
  absl::Status Logits(int num_rows, LogitsSink sink);

  void Norm(const float* weight, kernels::Activation* out);
  void MatMul(const kernels::Buffer& x, const kernels::Matrix& w, const kernels::Buffer& y, const Tile& tile,
              kernels::Stream& stream);
  kernels::Activation* Offset(const kernels::Buffer& buffer, int64_t elements) const;
  bool FirstToName(int layer) const;

  const ModelParts parts_;
  const ModelConfig& config_;
  const StepLimits limits_;
  kernels::Backend& backend_;
  kernels::Stream& stream_;
  const int first_output_layer_;  // layers from here on run output rows
  const int min_tiled_tokens_;
  const bool marks_index_;
  bool recorded_ = false;
  StepInputs inputs_;
  Activations act_;
  kernels::Stream* side_ = nullptr;  // for work beside the stream's own; the stream itself on one rank
  Half half_ = Half::kTokens;
  RowSet rows_{};
  std::array<Tile, 2> tiles_;  // rows_, divided
  size_t num_tiles_ = 0;
  IndexSet index_;
  std::array<std::map<int, std::unique_ptr<kernels::Graph>>, 2> graphs_;  // by half, by number of rows
};

}  // namespace yoio

#endif  // YOIO_ENGINE_MODEL_MODEL_H_
