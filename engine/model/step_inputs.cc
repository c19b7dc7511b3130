#include "engine/model/step_inputs.h"

#include <algorithm>

#include "base/check.h"
#include "base/status.h"

namespace yoio {
namespace {

using kernels::kBlockTokens;
using kernels::PagedRow;
using kernels::WordUpdate;

constexpr int64_t kWordsPerLine = 16;  // arrays begin cache lines
constexpr int kTokenArrays = 6;        // ids, positions, two kinds of slots, and rows of two words each
constexpr int kMaxUpdates = 1 << 16;   // that one copy carries; a step with more takes several

int64_t RoundUp(int64_t words) { return (words + kWordsPerLine - 1) / kWordsPerLine * kWordsPerLine; }

}  // namespace

StepInputs::StepInputs(const CacheGeometry& geometry, const StepLimits& limits, int index_top_k)
    : geometry_(geometry), limits_(limits), index_top_k_(index_top_k) {}

int64_t StepInputs::OutputRowsBegin() const { return RoundUp(limits_.max_output_rows); }
int64_t StepInputs::IndexCountsBegin() const {
  return OutputRowsBegin() + RoundUp(2 * limits_.max_output_rows);
}
int64_t StepInputs::TokensBegin() const { return IndexCountsBegin() + RoundUp(limits_.max_output_rows); }
int64_t StepInputs::TokenStride(int num_tokens) { return RoundUp(num_tokens); }
int64_t StepInputs::MaxWords() const {
  return TokensBegin() + kTokenArrays * TokenStride(limits_.max_step_tokens);
}

absl::Status StepInputs::Allocate(kernels::Backend& backend) {
  tables_.resize(geometry_.max_sequences);
  for (auto& table : tables_) table.reserve(geometry_.max_blocks_per_sequence);
  ring_filled_.resize(geometry_.max_sequences);
  for (int i = 0; i < limits_.depth; ++i) {
    YOIO_ASSIGN_OR_RETURN(kernels::Buffer staging, backend.AllocateHost(MaxWords() * sizeof(int32_t)));
    YOIO_ASSIGN_OR_RETURN(kernels::Buffer updates, backend.AllocateHost(kMaxUpdates * sizeof(WordUpdate)));
    staging_.push_back(std::move(staging));
    update_staging_.push_back(std::move(updates));
  }
  YOIO_ASSIGN_OR_RETURN(device_, backend.Allocate(MaxWords() * sizeof(int32_t)));
  YOIO_ASSIGN_OR_RETURN(updates_, backend.Allocate(kMaxUpdates * sizeof(WordUpdate)));
  const size_t entries = static_cast<size_t>(geometry_.max_sequences) * geometry_.max_blocks_per_sequence;
  YOIO_ASSIGN_OR_RETURN(block_tables_, backend.Allocate(entries * sizeof(int32_t)));
  return absl::OkStatus();
}

void StepInputs::UploadTables(kernels::Backend& backend, kernels::Stream& stream) {
  if (num_updates_ == 0) return;
  backend.CopyToDevice(updates_.data(), update_staging_[turn_].data(), num_updates_ * sizeof(WordUpdate),
                       stream);
  backend.UpdateWords({updates_.As<WordUpdate>(), num_updates_, block_tables_.As<int32_t>()}, stream);
  num_updates_ = 0;
}

// Before tables are extended: until then a table is empty in the first step of its sequence.
void StepInputs::FindUnfilledRings(const StepPlan& plan) {
  for (const SlotAdmission& admission : plan.admitted) ring_filled_[admission.slot] = 0;
  for (const auto* copies : {&plan.ring_copies, &plan.swap_in_rings}) {
    for (const BlockCopy& copy : *copies) ring_filled_[copy.destination] = 1;
  }
  unfilled_rings_.clear();
  for (const StepSequence& sequence : plan.sequences) {
    if (sequence.start_position == 0 || ring_filled_[sequence.slot] != 0) continue;
    if (tables_[sequence.slot].empty()) unfilled_rings_.push_back(sequence.slot);
  }
}

void StepInputs::ExtendTables(const StepPlan& plan, kernels::Backend& backend, kernels::Stream& stream) {
  for (const int32_t slot : plan.released_slots) tables_[slot].clear();
  for (const SlotAdmission& admission : plan.admitted) tables_[admission.slot].clear();
  FindUnfilledRings(plan);
  auto* updates = update_staging_[turn_].As<WordUpdate>();
  for (const StepSequence& sequence : plan.sequences) {
    std::vector<int32_t>& table = tables_[sequence.slot];
    const int64_t row = int64_t{sequence.slot} * geometry_.max_blocks_per_sequence;
    for (int i = 0; i < sequence.new_block_count; ++i) {
      if (num_updates_ == kMaxUpdates) {
        UploadTables(backend, stream);
        // The staging memory is about to be written again. What fails here fails the step's end too.
        backend.Synchronize(stream).IgnoreError();
      }
      const int32_t block = plan.new_blocks[sequence.new_block_begin + i];
      updates[num_updates_++] = {static_cast<int32_t>(row + static_cast<int64_t>(table.size())), block};
      table.push_back(block);
    }
    YOIO_CHECK_LE(table.size(), static_cast<size_t>(geometry_.max_blocks_per_sequence));
  }
  UploadTables(backend, stream);
}

// `words` is the memory of one step, as TokenArray and OutputRowsBegin divide it.
void StepInputs::Fill(const StepPlan& plan, const Sizes& sizes, int32_t* words) const {
  const int64_t stride = TokenStride(sizes.tokens);
  int32_t* ids = words + TokensBegin();
  int32_t* positions = ids + stride;
  int32_t* global_slots = positions + stride;
  int32_t* ring_slots = global_slots + stride;
  auto* rows = reinterpret_cast<PagedRow*>(ring_slots + stride);
  std::copy(plan.token_ids.begin(), plan.token_ids.end(), ids);
  std::copy(plan.positions.begin(), plan.positions.end(), positions);
  int token = 0;
  for (const StepSequence& sequence : plan.sequences) {
    const std::vector<int32_t>& table = tables_[sequence.slot];
    const int32_t end = sequence.start_position + sequence.token_count;
    const int32_t first_end = sequence.start_position + sizes.first_tile - sequence.token_begin;
    for (int32_t position = sequence.start_position; position < end; ++position, ++token) {
      global_slots[token] = position < sequence.global_from
                                ? -1
                                : table[position / kBlockTokens] * kBlockTokens + position % kBlockTokens;
      const int32_t tile_end = token < sizes.first_tile ? std::min(first_end, end) : end;
      const bool kept = geometry_.ring_tokens > 0 && position >= tile_end - geometry_.ring_tokens;
      ring_slots[token] =
          kept ? sequence.slot * geometry_.ring_tokens + position % geometry_.ring_tokens : -1;
      rows[token] = {sequence.slot, position + 1};
    }
  }
  for (; token < sizes.tokens; ++token) {
    ids[token] = positions[token] = 0;
    global_slots[token] = ring_slots[token] = -1;
    rows[token] = {0, 0};
  }

  int32_t* output_tokens = words;
  auto* output_rows = reinterpret_cast<PagedRow*>(words + OutputRowsBegin());
  int32_t* index_counts = words + IndexCountsBegin();
  const int count = static_cast<int>(plan.output_tokens.size());
  for (int i = 0; i < sizes.output_rows; ++i) {
    output_tokens[i] = i < count ? plan.output_tokens[i] : 0;
    output_rows[i] = i < count ? rows[output_tokens[i]] : PagedRow{0, 0};
    index_counts[i] = std::min(output_rows[i].length, index_top_k_);
  }
}

// A sequence that lies in both tiles is two spans.
void StepInputs::DivideSpans(const StepPlan& plan, int first_tile) {
  for (auto& spans : spans_) spans.clear();
  for (const StepSequence& sequence : plan.sequences) {
    const int32_t first = std::clamp(first_tile - sequence.token_begin, 0, sequence.token_count);
    if (first > 0) {
      spans_[0].push_back({sequence.token_begin, first, sequence.start_position, sequence.slot});
    }
    if (first < sequence.token_count) {
      spans_[1].push_back({sequence.token_begin + first - first_tile, sequence.token_count - first,
                           sequence.start_position + first, sequence.slot});
    }
  }
}

void StepInputs::Load(const StepPlan& plan, const Sizes& sizes, kernels::Backend& backend,
                      kernels::Stream& stream) {
  YOIO_CHECK_LE(sizes.tokens, limits_.max_step_tokens);
  YOIO_CHECK_LE(sizes.output_rows, limits_.max_output_rows);
  ExtendTables(plan, backend, stream);
  DivideSpans(plan, sizes.first_tile);
  num_tokens_ = sizes.tokens;
  Fill(plan, sizes, staging_[turn_].As<int32_t>());
  const int64_t words = TokensBegin() + kTokenArrays * TokenStride(sizes.tokens);
  backend.CopyToDevice(device_.data(), staging_[turn_].data(), words * sizeof(int32_t), stream);
  turn_ = (turn_ + 1) % limits_.depth;
}

}  // namespace yoio
