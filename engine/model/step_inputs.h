// A step plan as device arrays, and the block tables that plans extend.
#ifndef YOIO_ENGINE_MODEL_STEP_INPUTS_H_
#define YOIO_ENGINE_MODEL_STEP_INPUTS_H_

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/model/kv_cache.h"
#include "engine/step_plan.h"
#include "kernels/backend.h"

namespace yoio {

struct StepLimits {
  int max_step_tokens = 0;
  int max_output_rows = 0;
  int depth = 1;  // steps that may be under way at once
};

// Sized once for the largest step. Rank thread only.
//
// One copy carries a whole step to the device: output rows first, at places that never change, then tokens,
// at places that depend on their number alone. So work recorded for a number of rows finds its inputs there
// in every step of that many.
class StepInputs {
 public:
  // `index_top_k`: most tokens that an index selects; 0 without one.
  StepInputs(const CacheGeometry& geometry, const StepLimits& limits, int index_top_k);
  absl::Status Allocate(kernels::Backend& backend);

  // How many rows a step has, padding included.
  struct Sizes {
    int tokens;
    int output_rows;
    int first_tile;  // tokens that attend, and reach their rings, before the others do; all of them: `tokens`
  };

  // Takes the next plan, filled up with padding (kernels/ops.h). May be called again once fewer than `depth`
  // of the steps loaded before are under way.
  void Load(const StepPlan& plan, const Sizes& sizes, kernels::Backend& backend, kernels::Stream& stream);

  // Device arrays; [num_tokens] or [num_output_rows].
  const int32_t* token_ids() const { return TokenArray(0); }
  const int32_t* positions() const { return TokenArray(1); }
  const int32_t* global_slots() const { return TokenArray(2); }  // where a token's K,V go; -1: replayed
  const int32_t* ring_slots() const { return TokenArray(3); }    // -1: overwritten within this tile
  const kernels::PagedRow* token_rows() const {
    return reinterpret_cast<const kernels::PagedRow*>(TokenArray(4));
  }
  const int32_t* output_tokens() const { return device_.As<int32_t>(); }
  const kernels::PagedRow* output_rows() const {
    return reinterpret_cast<const kernels::PagedRow*>(device_.As<int32_t>() + OutputRowsBegin());
  }
  // How many tokens the index selects for each output row.
  const int32_t* index_counts() const { return device_.As<int32_t>() + IndexCountsBegin(); }
  // [slots, max_blocks_per_sequence]
  const int32_t* block_tables() const { return block_tables_.As<int32_t>(); }
  // Slots whose sequence begins in this step, behind tokens that its ring has nothing of.
  const std::vector<int32_t>& unfilled_rings() const { return unfilled_rings_; }
  // Host array: the sequences of a tile, rows counted from its first.
  std::span<const kernels::SequenceSpan> spans(int tile) const { return spans_[tile]; }

 private:
  void FindUnfilledRings(const StepPlan& plan);
  void ExtendTables(const StepPlan& plan, kernels::Backend& backend, kernels::Stream& stream);
  void UploadTables(kernels::Backend& backend, kernels::Stream& stream);
  void DivideSpans(const StepPlan& plan, int first_tile);
  void Fill(const StepPlan& plan, const Sizes& sizes, int32_t* words) const;

  // Places in 4-byte words from the beginning of a step's memory.
  int64_t OutputRowsBegin() const;
  int64_t IndexCountsBegin() const;
  int64_t TokensBegin() const;
  static int64_t TokenStride(int num_tokens);
  const int32_t* TokenArray(int number) const {
    return device_.As<int32_t>() + TokensBegin() + number * TokenStride(num_tokens_);
  }
  int64_t MaxWords() const;

  const CacheGeometry geometry_;
  const StepLimits limits_;
  const int index_top_k_;
  int num_tokens_ = 0;                        // of the step loaded last, padding included
  std::vector<std::vector<int32_t>> tables_;  // host mirror of block_tables_, by slot
  std::vector<char> ring_filled_;             // [slots] whether a copy came since the slot's admission
  std::vector<int32_t> unfilled_rings_;
  std::array<std::vector<kernels::SequenceSpan>, 2> spans_;
  std::vector<kernels::Buffer> staging_;         // [depth] host memory that a step is copied from
  std::vector<kernels::Buffer> update_staging_;  // as staging_, for the growth of block tables
  int turn_ = 0;                                 // which of them the next step takes
  int num_updates_ = 0;                          // filled in update_staging_[turn_]
  kernels::Buffer device_, updates_, block_tables_;
};

}  // namespace yoio

#endif  // YOIO_ENGINE_MODEL_STEP_INPUTS_H_
