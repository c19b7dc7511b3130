#include "engine/step_plan.h"

#include <cstddef>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "engine/flat_bytes.h"

// The bytes: kVersion, then the fields of StepPlan in the order of ForEachField below (engine/flat_bytes.h).

namespace yoio {
namespace {

constexpr uint32_t kVersion = 0x59500002;  // 'YP', then the version: raise it with every change of a field

}  // namespace

// Each struct once, for both directions: archive(field) for each field, in order.
template <typename Archive, Is<SamplingParams> T>
void ForEachField(Archive& archive, T& sampling) {
  archive(sampling.temperature, sampling.top_p, sampling.top_k, sampling.min_p, sampling.repetition_penalty,
          sampling.frequency_penalty, sampling.presence_penalty, sampling.seed, sampling.logit_bias);
}

template <typename Archive, Is<std::pair<int32_t, float>> T>
void ForEachField(Archive& archive, T& bias) {
  archive(bias.first, bias.second);
}

template <typename Archive, Is<SlotAdmission> T>
void ForEachField(Archive& archive, T& admission) {
  archive(admission.slot, admission.sampling, admission.stop_ids, admission.min_tokens, admission.prompt_ids,
          admission.output_ids);
}

template <typename Archive, Is<BlockCopy> T>
void ForEachField(Archive& archive, T& copy) {
  archive(copy.source, copy.destination);
}

template <typename Archive, Is<StepSequence> T>
void ForEachField(Archive& archive, T& sequence) {
  archive(sequence.slot, sequence.token_begin, sequence.token_count, sequence.start_position,
          sequence.new_block_begin, sequence.new_block_count, sequence.global_from);
}

template <typename Archive, Is<SampleRow> T>
void ForEachField(Archive& archive, T& row) {
  archive(row.output_row, row.slot, row.sample_index, row.output_position, row.logprob, row.top_n);
}

template <typename Archive, Is<ScoreRow> T>
void ForEachField(Archive& archive, T& row) {
  archive(row.output_row, row.target, row.top_n);
}

template <typename Archive, Is<StepPlan> T>
void ForEachField(Archive& archive, T& plan) {
  archive(plan.step, plan.released_slots, plan.admitted, plan.swap_out_blocks, plan.swap_out_rings,
          plan.ring_saves, plan.block_copies, plan.ring_copies, plan.swap_in_blocks, plan.swap_in_rings,
          plan.sequences, plan.new_blocks, plan.token_ids, plan.positions, plan.num_prompt_tokens,
          plan.output_tokens, plan.samples, plan.scores);
}

namespace {

// Whether [begin, begin + count) lies inside [0, size).
bool InRange(int32_t begin, int32_t count, size_t size) {
  return begin >= 0 && count >= 0 && int64_t{begin} + count <= static_cast<int64_t>(size);
}

absl::Status CheckConsistency(const StepPlan& plan) {
  const auto contradiction = [](const char* field, int64_t value) {
    return absl::InvalidArgumentError(absl::StrCat("step plan: ", field, " ", value, " is out of range"));
  };
  const size_t num_tokens = plan.token_ids.size();
  if (plan.positions.size() != num_tokens) return contradiction("number of positions", plan.positions.size());
  if (!InRange(0, plan.num_prompt_tokens, num_tokens)) {
    return contradiction("num_prompt_tokens", plan.num_prompt_tokens);
  }
  for (const StepSequence& sequence : plan.sequences) {
    if (sequence.token_count < 1 || !InRange(sequence.token_begin, sequence.token_count, num_tokens)) {
      return contradiction("token_begin", sequence.token_begin);
    }
    if (!InRange(sequence.new_block_begin, sequence.new_block_count, plan.new_blocks.size())) {
      return contradiction("new_block_begin", sequence.new_block_begin);
    }
  }
  int32_t next = 0;
  for (int32_t token : plan.output_tokens) {
    if (token < next || !InRange(token, 1, num_tokens)) return contradiction("output token", token);
    next = token + 1;
  }
  for (const SampleRow& row : plan.samples) {
    if (!InRange(row.output_row, 1, plan.output_tokens.size())) {
      return contradiction("output_row", row.output_row);
    }
  }
  for (const ScoreRow& row : plan.scores) {
    if (!InRange(row.output_row, 1, plan.output_tokens.size())) {
      return contradiction("output_row", row.output_row);
    }
  }
  return absl::OkStatus();
}

}  // namespace

std::string Serialize(const StepPlan& plan) {
  FlatWriter writer;
  writer(kVersion, plan);
  return writer.Take();
}

absl::StatusOr<StepPlan> DeserializeStepPlan(std::string_view bytes) {
  FlatReader reader("step plan", bytes);
  uint32_t version = 0;
  reader(version);
  if (version != kVersion) {
    return absl::InvalidArgumentError(
        absl::StrCat("step plan of ", bytes.size(), " bytes: version ", version, ", expected ", kVersion));
  }
  StepPlan plan;
  reader(plan);
  YOIO_RETURN_IF_ERROR(reader.Finish());
  YOIO_RETURN_IF_ERROR(CheckConsistency(plan));
  return plan;
}

}  // namespace yoio
