#include "engine/step_plan.h"

#include <bit>
#include <concepts>
#include <cstddef>
#include <type_traits>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"

// The layout: 32-bit words, little-endian. The first is kVersion; then come the fields of StepPlan in the
// order of ForEachField below, and nothing else. A number of 64 bits is two words, the low one first; a float
// is its bits; a bool is 0 or 1; a vector is its length, then its elements; a struct is its fields.

namespace yoio {
namespace {

constexpr uint32_t kVersion = 0x59500001;  // 'YP', then the version: raise it with every change of a field

template <typename T, typename Struct>
concept Is = std::same_as<std::remove_const_t<T>, Struct>;

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
          sequence.new_block_begin, sequence.new_block_count);
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
  archive(plan.step, plan.released_slots, plan.admitted, plan.block_copies, plan.ring_copies, plan.sequences,
          plan.new_blocks, plan.token_ids, plan.positions, plan.num_prompt_tokens, plan.output_tokens,
          plan.samples, plan.scores);
}

class Writer {
 public:
  template <typename... Fields>
  void operator()(const Fields&... fields) {
    (Write(fields), ...);
  }
  std::string Take() { return std::move(bytes_); }

 private:
  void Write(uint32_t word) {
    const char bytes[4] = {static_cast<char>(word), static_cast<char>(word >> 8),
                           static_cast<char>(word >> 16), static_cast<char>(word >> 24)};
    bytes_.append(bytes, sizeof(bytes));
  }
  void Write(int32_t value) { Write(static_cast<uint32_t>(value)); }
  void Write(bool value) { Write(uint32_t{value}); }
  void Write(float value) { Write(std::bit_cast<uint32_t>(value)); }
  void Write(uint64_t value) {
    Write(static_cast<uint32_t>(value));
    Write(static_cast<uint32_t>(value >> 32));
  }
  void Write(int64_t value) { Write(static_cast<uint64_t>(value)); }
  template <typename T>
  void Write(const std::vector<T>& values) {
    Write(static_cast<uint32_t>(values.size()));
    for (const T& value : values) Write(value);
  }
  template <typename T>
  requires std::is_class_v<T>
  void Write(const T& value) { ForEachField(*this, value); }

  std::string bytes_;
};

// After the first failure every word reads as 0 and the failure stays.
class Reader {
 public:
  explicit Reader(std::string_view bytes) : bytes_(bytes) {}

  template <typename... Fields>
  void operator()(Fields&... fields) {
    (Read(fields), ...);
  }

  // OK when everything has been read, and nothing is left.
  absl::Status Finish() const {
    if (failed_ || at_ == bytes_.size()) return status_;
    return absl::InvalidArgumentError(
        absl::StrCat("step plan: ", bytes_.size() - at_, " bytes after its end"));
  }

 private:
  void Fail(const char* what) {
    if (failed_) return;
    failed_ = true;
    status_ = absl::InvalidArgumentError(
        absl::StrCat("step plan of ", bytes_.size(), " bytes: ", what, " at byte ", at_));
  }

  void Read(uint32_t& word) {
    word = 0;
    if (bytes_.size() - at_ < 4) Fail("truncated");
    if (failed_) return;
    for (int i = 0; i < 4; ++i) word |= uint32_t{static_cast<uint8_t>(bytes_[at_ + i])} << (8 * i);
    at_ += 4;
  }
  void Read(int32_t& value) {
    uint32_t word;
    Read(word);
    value = static_cast<int32_t>(word);
  }
  void Read(bool& value) {
    uint32_t word;
    Read(word);
    if (word > 1) Fail("neither true nor false");
    value = word == 1;
  }
  void Read(float& value) {
    uint32_t word;
    Read(word);
    value = std::bit_cast<float>(word);
  }
  void Read(uint64_t& value) {
    uint32_t low, high;
    (*this)(low, high);
    value = uint64_t{high} << 32 | low;
  }
  void Read(int64_t& value) {
    uint64_t bits;
    Read(bits);
    value = static_cast<int64_t>(bits);
  }
  // Grows as elements are found: a lying length cannot make it allocate more than a few times the bytes.
  template <typename T>
  void Read(std::vector<T>& values) {
    uint32_t size;
    Read(size);
    if (size > (bytes_.size() - at_) / 4) Fail("a length beyond the end");
    for (uint32_t i = 0; i < size && !failed_; ++i) Read(values.emplace_back());
  }
  template <typename T>
  requires std::is_class_v<T>
  void Read(T& value) { ForEachField(*this, value); }

  const std::string_view bytes_;
  size_t at_ = 0;
  bool failed_ = false;
  absl::Status status_;
};

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
  Writer writer;
  writer(kVersion, plan);
  return writer.Take();
}

absl::StatusOr<StepPlan> DeserializeStepPlan(std::string_view bytes) {
  Reader reader(bytes);
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
