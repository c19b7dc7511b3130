#include "engine/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/check.h"
#include "kernels/draw.h"
#include "kernels/draw_math.h"

namespace yoio {
namespace {

using kernels::FindPeak;
using kernels::Peak;
using kernels::SelectTop;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Log-probabilities of one row of raw logits.
class LogSoftmax {
 public:
  LogSoftmax(std::span<const float> logits, Peak peak)
      : logits_(logits), highest_(peak.value), log_sum_(kernels::PortableLog(Sum(logits, peak.value))) {}

  float operator()(int32_t id) const {
    const float logit = logits_[id];
    if (logit == -kInfinity) return -kInfinity;
    if (highest_ == kInfinity) return logit == kInfinity ? static_cast<float>(-log_sum_) : -kInfinity;
    return static_cast<float>(static_cast<double>(logit) - highest_ - log_sum_);
  }

 private:
  // Of the weights relative to the highest; infinities weigh 1 each.
  static double Sum(std::span<const float> logits, float highest) {
    if (std::isinf(highest)) return static_cast<double>(std::count(logits.begin(), logits.end(), highest));
    return kernels::SumExp(logits, highest, 1.0f);
  }

  const std::span<const float> logits_;
  const float highest_;
  const double log_sum_;
};

void AddLogprobs(std::span<const float> logits, Peak peak, int top_n, std::span<int32_t> order,
                 TokenRecord& record) {
  const LogSoftmax logprob(logits, peak);
  record.logprob = logprob(record.id);
  for (int32_t id : SelectTop(logits, top_n, order)) record.top.push_back({id, logprob(id)});
}

}  // namespace

Sampler::Sampler(int vocab, int max_sequences) : vocab_(vocab), slots_(max_sequences) {
  YOIO_CHECK_GE(vocab, 1);
}

void Sampler::Admit(const SlotAdmission& admission) {
  YOIO_CHECK(admission.slot >= 0 && admission.slot < static_cast<int>(slots_.size()))
      << "slot " << admission.slot << " of " << slots_.size();
  Release(admission.slot);
  Slot& slot = slots_[admission.slot];
  slot.sampling = admission.sampling;
  slot.stop_ids = admission.stop_ids;
  slot.min_tokens = admission.min_tokens;
  for (int32_t id : slot.stop_ids) YOIO_CHECK(id >= 0 && id < vocab_) << "stop id " << id;
  for (const auto& [id, bias] : slot.sampling.logit_bias) YOIO_CHECK(id >= 0 && id < vocab_) << "bias " << id;
  slot.has_history = slot.sampling.NeedsHistory();
  if (!slot.has_history) return;
  slot.is_seen.resize(vocab_);
  slot.output_count.resize(vocab_);
  for (int32_t id : admission.prompt_ids) See(slot, id);
  for (int32_t id : admission.output_ids) Record(admission.slot, id);
}

void Sampler::Release(int slot_index) {
  Slot& slot = slots_[slot_index];
  for (int32_t id : slot.seen) {
    slot.is_seen[id] = 0;
    slot.output_count[id] = 0;
  }
  slot.seen.clear();
  slot.has_history = false;
}

void Sampler::Record(int slot_index, int32_t id) {
  Slot& slot = slots_[slot_index];
  if (!slot.has_history) return;
  See(slot, id);
  ++slot.output_count[id];
}

void Sampler::See(Slot& slot, int32_t id) const {
  YOIO_CHECK(id >= 0 && id < vocab_) << "id " << id << " of a vocabulary of " << vocab_;
  if (slot.is_seen[id]) return;
  slot.is_seen[id] = 1;
  slot.seen.push_back(id);
}

Sampler::Scratch Sampler::NewScratch() const {
  return {std::vector<float>(vocab_), std::vector<int32_t>(vocab_)};
}

bool Sampler::IsPlain(const SampleRow& row) const {
  const Slot& slot = slots_[row.slot];
  return !slot.has_history && slot.sampling.logit_bias.empty() && !Bans(slot, row) && !row.logprob &&
         row.top_n == 0;
}

kernels::DrawRow Sampler::RowFor(const SampleRow& row) const {
  const SamplingParams& sampling = slots_[row.slot].sampling;
  return {.logits_row = row.output_row,
          .temperature = sampling.temperature,
          .top_k = sampling.top_k,
          .top_p = sampling.top_p,
          .min_p = sampling.min_p,
          .seed_low = static_cast<uint32_t>(sampling.seed),
          .seed_high = static_cast<uint32_t>(sampling.seed >> 32),
          .sample_index = static_cast<uint32_t>(row.sample_index),
          .output_position = static_cast<uint32_t>(row.output_position)};
}

SampledToken Sampler::Sample(const SampleRow& row, const float* logits, Scratch& scratch) const {
  const Slot& slot = slots_[row.slot];
  const std::span<const float> raw(logits, vocab_);
  const Peak raw_peak = FindPeak(raw);
  SampledToken sampled{};
  sampled.invalid = raw_peak.nan;
  if (sampled.invalid) return sampled;
  const std::span<const float> adjusted = Adjust(slot, row, raw, scratch);
  const Peak peak = adjusted.data() == logits ? raw_peak : FindPeak(adjusted);
  sampled.record.id = kernels::DrawToken(RowFor(row), adjusted, peak, {scratch.logits, scratch.order});
  if (row.logprob || row.top_n > 0) AddLogprobs(raw, raw_peak, row.top_n, scratch.order, sampled.record);
  return sampled;
}

TokenRecord Sampler::Score(const ScoreRow& row, const float* logits, Scratch& scratch) const {
  const std::span<const float> raw(logits, vocab_);
  const Peak peak = FindPeak(raw);
  TokenRecord record{row.target, std::numeric_limits<float>::quiet_NaN(), {}};
  if (!peak.nan) AddLogprobs(raw, peak, row.top_n, scratch.order, record);
  return record;
}

std::span<const float> Sampler::Adjust(const Slot& slot, const SampleRow& row, std::span<const float> logits,
                                       Scratch& scratch) const {
  const SamplingParams& sampling = slot.sampling;
  const bool bans = Bans(slot, row);
  if (slot.seen.empty() && sampling.logit_bias.empty() && !bans) return logits;
  std::vector<float>& adjusted = scratch.logits;
  std::copy(logits.begin(), logits.end(), adjusted.begin());
  for (int32_t id : slot.seen) {
    float& logit = adjusted[id];
    logit = logit > 0 ? logit / sampling.repetition_penalty : logit * sampling.repetition_penalty;
    if (slot.output_count[id] == 0) continue;
    logit -= sampling.frequency_penalty * static_cast<float>(slot.output_count[id]);
    logit -= sampling.presence_penalty;
  }
  for (const auto& [id, bias] : sampling.logit_bias) {
    adjusted[id] += bias;
    if (std::isnan(adjusted[id])) adjusted[id] = -kInfinity;
  }
  if (bans) {
    for (int32_t id : slot.stop_ids) adjusted[id] = -kInfinity;
  }
  return adjusted;
}

}  // namespace yoio
