#include "engine/sampler.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "base/check.h"
#include "engine/sampler_math.h"

namespace yoio {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// The distribution that a token is drawn from, before top-k, top-p and min-p.
struct Shape {
  std::span<const float> logits;  // adjusted
  float highest;                  // finite
  float temperature;              // > 0

  // Monotone in the logit, rounding included: what holds for the highest of a block holds for all of it.
  float Scaled(float logit) const { return (logit - highest) / temperature; }
};

// Keeps the best token so far by logit plus noise.
class NoisyArgmax {
 public:
  NoisyArgmax(const Shape& shape, uint64_t seed, const SampleRow& row)
      : shape_(shape),
        key_{static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)},
        position_(row.output_position),
        sample_index_(row.sample_index) {}

  void Try(int32_t id, float floor) {
    const float scaled = shape_.Scaled(shape_.logits[id]);
    if (!Hopeless(scaled, floor)) Try(id, scaled, Noise(id / 4)[id % 4]);
  }

  // Every token whose scaled logit is at least `floor`. What cannot win costs little: a block one comparison
  // a token, a group of four its noise, and logarithms only where one of the four may win with that noise.
  void TryAll(float floor) {
    constexpr size_t kBlock = 64;
    const std::span<const float> logits = shape_.logits;
    for (size_t block = 0; block < logits.size(); block += kBlock) {
      const size_t block_end = std::min(block + kBlock, logits.size());
      if (Hopeless(shape_.Scaled(MaxOf(logits.subspan(block, block_end - block))), floor)) continue;
      for (size_t group = block; group < block_end; group += 4) {
        TryGroup(group, std::min(group + 4, block_end), floor);
      }
    }
  }

  int32_t id() const { return id_; }

 private:
  // No noise makes a token of that logit, or of a lower one, the best.
  bool Hopeless(float scaled, float floor) const {
    return scaled < floor || scaled + kMaxGumbelNoise < best_;
  }

  // The noise of tokens 4 * group .. 4 * group + 3.
  std::array<uint32_t, 4> Noise(uint32_t group) const {
    return Philox4x32({group, position_, sample_index_, 0}, key_);
  }

  void TryGroup(size_t begin, size_t end, float floor) {
    const float* logits = shape_.logits.data();
    const float highest = shape_.Scaled(*std::max_element(logits + begin, logits + end));
    if (Hopeless(highest, floor)) return;
    const std::array<uint32_t, 4> noise = Noise(begin / 4);
    if (highest + GumbelBound(*std::max_element(noise.begin(), noise.end())) < best_) return;
    for (size_t id = begin; id < end; ++id) {
      const float scaled = shape_.Scaled(logits[id]);
      if (scaled >= floor) Try(id, scaled, noise[id - begin]);
    }
  }

  void Try(int32_t id, float scaled, uint32_t noise) {
    if (scaled + GumbelBound(noise) < best_) return;  // spares two logarithms
    const double sum = scaled + GumbelNoise(noise);
    if (sum > best_ || (sum == best_ && id < id_)) {
      best_ = sum;
      id_ = id;
    }
  }

  const Shape& shape_;
  const std::array<uint32_t, 2> key_;
  const uint32_t position_;
  const uint32_t sample_index_;
  double best_ = -std::numeric_limits<double>::infinity();
  int32_t id_ = 0;
};

float Weight(const Shape& shape, int32_t id) { return PortableExp(shape.Scaled(shape.logits[id])); }

// The fewest of `tokens`, from the first on, whose weights reach `goal`; all of them when they do not.
std::span<int32_t> FewestThatReach(double goal, const Shape& shape, std::span<int32_t> tokens) {
  double sum = 0.0;
  size_t count = 0;
  while (count < tokens.size() && sum < goal) sum += Weight(shape, tokens[count++]);
  return tokens.first(count);
}

std::span<int32_t> TopKTopP(const Shape& shape, int top_k, float top_p, std::vector<int32_t>& order) {
  const std::span<int32_t> kept = SelectTop(shape.logits, top_k, order);
  if (top_p == 1.0f) return kept;
  double total = 0.0;
  for (int32_t id : kept) total += Weight(shape, id);
  return FewestThatReach(top_p * total, shape, kept);
}

// Few tokens make up most of a trained model's distribution, so that a short selection is usually enough; a
// flat distribution ends in a sort of the whole vocabulary.
std::span<int32_t> TopP(const Shape& shape, float top_p, std::vector<int32_t>& order) {
  const size_t vocab = shape.logits.size();
  const double total = SumExp(shape.logits.data(), static_cast<int>(vocab), shape.highest, shape.temperature);
  for (size_t size = 256;; size *= 16) {
    const std::span<int32_t> best = SelectTop(shape.logits, static_cast<int>(std::min(size, vocab)), order);
    const std::span<int32_t> kept = FewestThatReach(top_p * total, shape, best);
    if (kept.size() < best.size() || size >= vocab) return kept;
  }
}

// Log-probabilities of one row of raw logits.
class LogSoftmax {
 public:
  LogSoftmax(std::span<const float> logits, Peak peak)
      : logits_(logits), highest_(peak.value), log_sum_(PortableLog(Sum(logits, peak.value))) {}

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
    return SumExp(logits.data(), static_cast<int>(logits.size()), highest, 1.0f);
  }

  const std::span<const float> logits_;
  const float highest_;
  const double log_sum_;
};

void AddLogprobs(std::span<const float> logits, Peak peak, int top_n, std::vector<int32_t>& order,
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

SampledToken Sampler::Sample(const SampleRow& row, const float* logits, Scratch& scratch) const {
  const Slot& slot = slots_[row.slot];
  const std::span<const float> raw(logits, vocab_);
  const Peak raw_peak = FindPeak(raw);
  SampledToken sampled{};
  sampled.invalid = raw_peak.nan;
  if (sampled.invalid) return sampled;
  const std::span<const float> adjusted = Adjust(slot, row, raw, scratch);
  const Peak peak = adjusted.data() == logits ? raw_peak : FindPeak(adjusted);
  sampled.record.id = Draw(slot.sampling, row, adjusted, peak, scratch);
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
  const bool bans = row.output_position < slot.min_tokens && !slot.stop_ids.empty();
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

int32_t Sampler::Draw(const SamplingParams& sampling, const SampleRow& row, std::span<const float> logits,
                      Peak peak, Scratch& scratch) const {
  if (sampling.temperature == 0.0f || peak.value == -kInfinity) return peak.id;
  if (peak.value == kInfinity) {
    std::transform(logits.begin(), logits.end(), scratch.logits.begin(),
                   [](float logit) { return logit == kInfinity ? 0.0f : -kInfinity; });
    logits = scratch.logits;
    peak.value = 0.0f;
  }
  const Shape shape{logits, peak.value, sampling.temperature};
  const float floor = sampling.min_p > 0.0f ? static_cast<float>(PortableLog(sampling.min_p)) : -kInfinity;
  NoisyArgmax argmax(shape, sampling.seed, row);
  argmax.Try(peak.id, floor);  // first: the higher the bar, the more tokens are skipped
  const int top_k = sampling.top_k < vocab_ ? sampling.top_k : 0;
  if (top_k == 0 && sampling.top_p == 1.0f) {
    argmax.TryAll(floor);
    return argmax.id();
  }
  const std::span<int32_t> kept = top_k > 0 ? TopKTopP(shape, top_k, sampling.top_p, scratch.order)
                                            : TopP(shape, sampling.top_p, scratch.order);
  for (int32_t id : kept) argmax.Try(id, floor);
  return argmax.id();
}

}  // namespace yoio
