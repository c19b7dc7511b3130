#include "kernels/logit_scan.h"

#include <algorithm>
#include <limits>

#include "kernels/draw_math.h"

namespace yoio::kernels {
namespace {

constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

// Elements that are compared side by side: four vectors of the smallest machine, so that the comparisons of
// one do not wait for another.
constexpr size_t kLanes = 16;
constexpr size_t kBlock = 256;

struct Highest {
  float value = kMinusInfinity;
  bool nan = false;
};

Highest ScanBlock(std::span<const float> block) {
  float lanes[kLanes];
  uint32_t nan[kLanes] = {};
  std::fill(lanes, lanes + kLanes, kMinusInfinity);
  const size_t whole = block.size() / kLanes * kLanes;
  for (size_t row = 0; row < whole; row += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) {
      const float x = block[row + lane];
      lanes[lane] = x > lanes[lane] ? x : lanes[lane];
      nan[lane] |= x != x;
    }
  }
  for (size_t i = whole; i < block.size(); ++i) {
    lanes[0] = block[i] > lanes[0] ? block[i] : lanes[0];
    nan[0] |= block[i] != block[i];
  }
  Highest highest;
  for (size_t lane = 0; lane < kLanes; ++lane) {
    highest.value = std::max(highest.value, lanes[lane]);
    highest.nan |= nan[lane] != 0;
  }
  return highest;
}

// Calls visit(weights) with the exponentials of one tile after another; the last is filled up with zeros.
constexpr size_t kTile = 256;
template <typename Visit>
void ForWeights(std::span<const float> logits, float shift, float temperature, const Visit& visit) {
  float weights[kTile];
  for (size_t begin = 0; begin < logits.size(); begin += kTile) {
    const size_t size = std::min(kTile, logits.size() - begin);
    for (size_t i = 0; i < size; ++i) weights[i] = ClampExponent((logits[begin + i] - shift) / temperature);
    for (size_t i = 0; i < size; ++i) weights[i] = ExpOfClamped(weights[i]);
    std::fill(weights + size, weights + kTile, 0.0f);
    visit(weights);
  }
}

}  // namespace

Peak FindPeak(std::span<const float> logits) {
  Highest highest;
  size_t best_block = 0;
  for (size_t begin = 0; begin < logits.size(); begin += kBlock) {
    const Highest of_block = ScanBlock(logits.subspan(begin, std::min(kBlock, logits.size() - begin)));
    highest.nan |= of_block.nan;
    if (of_block.value > highest.value) {
      highest.value = of_block.value;
      best_block = begin;
    }
  }
  const auto begin = logits.begin() + best_block;
  const auto at = std::find(begin, logits.end(), highest.value);
  return {highest.value, static_cast<int32_t>(at - logits.begin()), highest.nan};
}

float MaxOf(std::span<const float> logits) { return ScanBlock(logits).value; }

std::span<int32_t> SelectTop(std::span<const float> logits, int k, std::span<int32_t> order) {
  constexpr size_t kScan = 64;   // tokens that are skipped together
  constexpr size_t kLeast = 64;  // candidates that are not worth a selection
  const size_t wanted = std::min<size_t>(k, logits.size());
  const size_t limit = std::max(2 * wanted, kLeast);
  const BetterToken better{logits.data()};
  size_t count = 0;
  float floor = kMinusInfinity;  // what a candidate must exceed: a later equal loses its tie
  const auto keep_best = [&] {
    if (count <= wanted) return;
    std::nth_element(order.begin(), order.begin() + wanted, order.begin() + count, better);
    count = wanted;
  };
  for (size_t begin = 0; begin < logits.size() && wanted > 0; begin += kScan) {
    const size_t size = std::min(kScan, logits.size() - begin);
    if (MaxOf(logits.subspan(begin, size)) <= floor) continue;
    for (size_t i = begin; i < begin + size; ++i) {
      if (!(logits[i] > floor)) continue;
      order[count++] = static_cast<int32_t>(i);
      if (count < limit) continue;
      keep_best();
      floor = logits[*std::max_element(order.begin(), order.begin() + count, better)];
    }
  }
  keep_best();
  std::sort(order.begin(), order.begin() + count, better);
  return {order.data(), count};
}

int64_t SumWeights(std::span<const float> logits, float shift, float temperature) {
  int64_t sum = 0;
  ForWeights(logits, shift, temperature, [&](const float* weights) {
    for (size_t i = 0; i < kTile; ++i) sum += FixedWeight(weights[i]);
  });
  return sum;
}

}  // namespace yoio::kernels
