#include "engine/model/step_inputs.h"


#include "base/check.h"
#include "base/status.h"

namespace yoio {
namespace {

using kernels::kBlockTokens;
using kernels::PagedRow;

template <typename T>
void Upload(const kernels::Buffer& buffer, const std::vector<T>& values, kernels::Backend& backend,
            kernels::Stream& stream) {
  YOIO_CHECK_LE(values.size() * sizeof(T), buffer.bytes());
  if (!values.empty()) backend.CopyToDevice(buffer.data(), values.data(), values.size() * sizeof(T), stream);
}

}  // namespace

absl::Status StepInputs::Allocate(kernels::Backend& backend) {
  tables_.resize(geometry_.max_sequences);
  for (auto& table : tables_) table.reserve(geometry_.max_blocks_per_sequence);
  const auto allocate = [&](kernels::Buffer& buffer, size_t bytes) -> absl::Status {
    YOIO_ASSIGN_OR_RETURN(buffer, backend.Allocate(bytes));
    return absl::OkStatus();
  };
  const size_t tokens = limits_.max_step_tokens, rows = limits_.max_output_rows;
  for (kernels::Buffer* buffer : {&token_ids_, &positions_, &global_slots_, &ring_slots_}) {
    YOIO_RETURN_IF_ERROR(allocate(*buffer, tokens * sizeof(int32_t)));
  }
  YOIO_RETURN_IF_ERROR(allocate(token_rows_, tokens * sizeof(PagedRow)));
  YOIO_RETURN_IF_ERROR(allocate(output_tokens_, rows * sizeof(int32_t)));
  YOIO_RETURN_IF_ERROR(allocate(output_rows_, rows * sizeof(PagedRow)));
  const size_t table_entries =
      static_cast<size_t>(geometry_.max_sequences) * geometry_.max_blocks_per_sequence;
  YOIO_RETURN_IF_ERROR(allocate(block_tables_, table_entries * sizeof(int32_t)));
  return allocate(copy_pairs_, geometry_.max_sequences * sizeof(BlockCopy));
}

void StepInputs::ExtendTables(const StepPlan& plan, kernels::Backend& backend, kernels::Stream& stream) {
  for (const int32_t slot : plan.released_slots) tables_[slot].clear();
  for (const SlotAdmission& admission : plan.admitted) tables_[admission.slot].clear();
  for (const StepSequence& sequence : plan.sequences) {
    if (sequence.new_block_count == 0) continue;
    std::vector<int32_t>& table = tables_[sequence.slot];
    const size_t known = table.size();
    const auto first = plan.new_blocks.begin() + sequence.new_block_begin;
    table.insert(table.end(), first, first + sequence.new_block_count);
    YOIO_CHECK_LE(table.size(), static_cast<size_t>(geometry_.max_blocks_per_sequence));
    int32_t* row =
        block_tables_.As<int32_t>() + static_cast<int64_t>(sequence.slot) * geometry_.max_blocks_per_sequence;
    backend.CopyToDevice(row + known, table.data() + known, sequence.new_block_count * sizeof(int32_t),
                         stream);
  }
}

void StepInputs::Load(const StepPlan& plan, const std::vector<int32_t>& previous_samples,
                      kernels::Backend& backend, kernels::Stream& stream) {
  ExtendTables(plan, backend, stream);
  num_tokens = static_cast<int>(plan.token_ids.size());
  num_prompt_tokens = plan.num_prompt_tokens;
  num_output_rows = static_cast<int>(plan.output_tokens.size());

  host_ids_ = plan.token_ids;
  for (int32_t& id : host_ids_) {
    if (id < 0) id = previous_samples[-1 - id];
  }
  spans_.clear();
  host_global_slots_.clear();
  host_ring_slots_.clear();
  host_token_rows_.clear();
  for (const StepSequence& sequence : plan.sequences) {
    spans_.push_back({sequence.token_begin, sequence.token_count, sequence.start_position, sequence.slot});
    const std::vector<int32_t>& table = tables_[sequence.slot];
    const int32_t end = sequence.start_position + sequence.token_count;
    for (int32_t position = sequence.start_position; position < end; ++position) {
      host_global_slots_.push_back(table[position / kBlockTokens] * kBlockTokens + position % kBlockTokens);
      const bool kept = geometry_.ring_tokens > 0 && position >= end - geometry_.ring_tokens;
      host_ring_slots_.push_back(
          kept ? sequence.slot * geometry_.ring_tokens + position % geometry_.ring_tokens : -1);
      host_token_rows_.push_back({sequence.slot, position + 1});
    }
  }
  host_output_rows_.clear();
  for (const int32_t token : plan.output_tokens) host_output_rows_.push_back(host_token_rows_[token]);

  Upload(token_ids_, host_ids_, backend, stream);
  Upload(positions_, plan.positions, backend, stream);
  Upload(global_slots_, host_global_slots_, backend, stream);
  Upload(ring_slots_, host_ring_slots_, backend, stream);
  Upload(token_rows_, host_token_rows_, backend, stream);
  Upload(output_tokens_, plan.output_tokens, backend, stream);
  Upload(output_rows_, host_output_rows_, backend, stream);
}

}  // namespace yoio
