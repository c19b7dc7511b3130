#include "kernels/draw.h"

#include <algorithm>
#include <array>
#include <limits>

#include "kernels/contender.h"
#include "kernels/draw_math.h"

namespace yoio::kernels {
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

// More than the floats in sums of scaled logits and noise are off by, near the best one.
constexpr double kSlack = 1e-4;

// Keeps the best token so far by logit plus noise. Scaled logits tell what cannot be better.
class NoisyArgmax {
 public:
  NoisyArgmax(const Shape& shape, const DrawRow& row, int32_t first_id)
      : shape_(shape), row_(row), first_group_(first_id / 4) {}

  void Try(int32_t id, float floor) {
    const float scaled = shape_.Scaled(shape_.logits[id]);
    if (!Hopeless(scaled, floor)) Try(id, scaled, NoiseOf(id / 4)[id % 4]);
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

  int32_t id() const { return best_.id; }

 private:
  // No noise makes a token of that logit, or of a lower one, the best.
  bool Hopeless(float scaled, float floor) const {
    return scaled < floor || scaled + kMaxGumbelNoise < reach_;
  }

  // Of the tokens in places 4 * group .. 4 * group + 3.
  std::array<uint32_t, 4> NoiseOf(uint32_t group) const { return NoiseBits(row_, first_group_ + group); }

  void TryGroup(size_t begin, size_t end, float floor) {
    const float* logits = shape_.logits.data();
    const float highest = shape_.Scaled(*std::max_element(logits + begin, logits + end));
    if (Hopeless(highest, floor)) return;
    const std::array<uint32_t, 4> noise = NoiseOf(begin / 4);
    if (highest + GumbelBound(*std::max_element(noise.begin(), noise.end())) < reach_) return;
    for (size_t id = begin; id < end; ++id) {
      const float scaled = shape_.Scaled(logits[id]);
      if (scaled >= floor) Try(id, scaled, noise[id - begin]);
    }
  }

  void Try(int32_t id, float scaled, uint32_t bits) {
    if (scaled + GumbelBound(bits) < reach_) return;  // spares two logarithms
    const double noise = GumbelNoise(bits);
    const Contender next{shape_.temperature * noise, shape_.logits[id], id};
    if (!next.Beats(best_)) return;
    best_ = next;
    reach_ = scaled + noise - kSlack;
  }

  const Shape& shape_;
  const DrawRow& row_;
  const uint32_t first_group_;
  Contender best_;
  double reach_ = -std::numeric_limits<double>::infinity();  // what a better token's sum is no less than
};

int64_t Weight(const Shape& shape, int32_t id) {
  return FixedWeight(PortableExp(shape.Scaled(shape.logits[id])));
}

// The fewest of `tokens`, from the first on, whose weights reach `goal`; all of them when they do not.
std::span<int32_t> FewestThatReach(int64_t goal, const Shape& shape, std::span<int32_t> tokens) {
  int64_t sum = 0;
  size_t count = 0;
  while (count < tokens.size() && sum < goal) sum += Weight(shape, tokens[count++]);
  return tokens.first(count);
}

std::span<int32_t> TopKTopP(const Shape& shape, int top_k, float top_p, std::span<int32_t> order) {
  const std::span<int32_t> kept = SelectTop(shape.logits, top_k, order);
  if (top_p == 1.0f) return kept;
  int64_t total = 0;
  for (int32_t id : kept) total += Weight(shape, id);
  return FewestThatReach(WeightGoal(top_p, total), shape, kept);
}

// Few tokens make up most of a trained model's distribution, so that a short selection is usually enough; a
// flat distribution ends in a sort of the whole vocabulary.
std::span<int32_t> TopP(const Shape& shape, float top_p, std::span<int32_t> order) {
  const size_t vocab = shape.logits.size();
  const int64_t goal = WeightGoal(top_p, SumWeights(shape.logits, shape.highest, shape.temperature));
  for (size_t size = 256;; size *= 16) {
    const std::span<int32_t> best = SelectTop(shape.logits, static_cast<int>(std::min(size, vocab)), order);
    const std::span<int32_t> kept = FewestThatReach(goal, shape, best);
    if (kept.size() < best.size() || size >= vocab) return kept;
  }
}

}  // namespace

int32_t DrawToken(const DrawRow& row, std::span<const float> logits, Peak peak, const DrawScratch& scratch,
                  int32_t first_id) {
  if (row.temperature == 0.0f || peak.value == -kInfinity) return peak.id;
  if (peak.value == kInfinity) {
    std::transform(logits.begin(), logits.end(), scratch.logits.begin(),
                   [](float logit) { return logit == kInfinity ? 0.0f : -kInfinity; });
    logits = scratch.logits.first(logits.size());
    peak.value = 0.0f;
  }
  const Shape shape{logits, peak.value, row.temperature};
  const float floor = row.min_p > 0.0f ? static_cast<float>(PortableLog(row.min_p)) : -kInfinity;
  NoisyArgmax argmax(shape, row, first_id);
  argmax.Try(peak.id, floor);  // first: the higher the bar, the more tokens are skipped
  const int top_k = row.top_k < static_cast<int>(logits.size()) ? row.top_k : 0;
  if (top_k == 0 && row.top_p == 1.0f) {
    argmax.TryAll(floor);
    return argmax.id();
  }
  const std::span<int32_t> kept =
      top_k > 0 ? TopKTopP(shape, top_k, row.top_p, scratch.order) : TopP(shape, row.top_p, scratch.order);
  for (int32_t id : kept) argmax.Try(id, floor);
  return argmax.id();
}

}  // namespace yoio::kernels
