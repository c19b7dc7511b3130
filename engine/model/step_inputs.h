// A step plan as device arrays, and the block tables that plans extend.
#ifndef YOIO_ENGINE_MODEL_STEP_INPUTS_H_
#define YOIO_ENGINE_MODEL_STEP_INPUTS_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/model/kv_cache.h"
#include "engine/step_plan.h"
#include "kernels/backend.h"

namespace yoio {

struct StepLimits {
  int max_step_tokens = 0;
  int max_output_rows = 0;
};

// Sized once for the largest step. Rank thread only.
class StepInputs {
 public:
  StepInputs(const CacheGeometry& geometry, const StepLimits& limits)
      : geometry_(geometry), limits_(limits) {}
  absl::Status Allocate(kernels::Backend& backend);

  // Takes the next plan. `previous_samples` are the tokens that the step before drew: what negative ids name.
  void Load(const StepPlan& plan, const std::vector<int32_t>& previous_samples, kernels::Backend& backend,
            kernels::Stream& stream);

  int num_tokens = 0;
  int num_prompt_tokens = 0;
  int num_output_rows = 0;

  // Device arrays; [num_tokens] or [num_output_rows].
  const int32_t* token_ids() const { return token_ids_.As<int32_t>(); }
  const int32_t* positions() const { return positions_.As<int32_t>(); }
  const int32_t* global_slots() const { return global_slots_.As<int32_t>(); }  // where a token's K,V go
  const int32_t* ring_slots() const { return ring_slots_.As<int32_t>(); }  // -1: overwritten within this step
  const kernels::PagedRow* token_rows() const { return token_rows_.As<kernels::PagedRow>(); }
  const int32_t* output_tokens() const { return output_tokens_.As<int32_t>(); }
  const kernels::PagedRow* output_rows() const { return output_rows_.As<kernels::PagedRow>(); }
  const int32_t* block_tables() const {
    return block_tables_.As<int32_t>();
  }  // [slots, max_blocks_per_sequence]
  int32_t* copy_pairs() const { return copy_pairs_.As<int32_t>(); }
  // Host arrays.
  const std::vector<kernels::SequenceSpan>& spans() const { return spans_; }
  const std::vector<kernels::PagedRow>& host_output_rows() const { return host_output_rows_; }

 private:
  void ExtendTables(const StepPlan& plan, kernels::Backend& backend, kernels::Stream& stream);

  const CacheGeometry geometry_;
  const StepLimits limits_;
  std::vector<std::vector<int32_t>> tables_;  // host mirror of block_tables_, by slot
  std::vector<kernels::SequenceSpan> spans_;
  std::vector<int32_t> host_ids_, host_global_slots_, host_ring_slots_;
  std::vector<kernels::PagedRow> host_token_rows_, host_output_rows_;
  kernels::Buffer token_ids_, positions_, global_slots_, ring_slots_, token_rows_, output_tokens_,
      output_rows_, block_tables_, copy_pairs_;
};

}  // namespace yoio

#endif  // YOIO_ENGINE_MODEL_STEP_INPUTS_H_
