#include "kernels/draw.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>
#include <vector>

#include "kernels/draw_math.h"
#include "tests/support/backend_test.h"
#include "tests/support/compare.h"
#include "tests/support/random.h"

namespace yoio::test {
namespace {

using kernels::DrawRow;

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

DrawRow Greedy(int32_t logits_row = 0) {
  return {.logits_row = logits_row,
          .temperature = 0.0f,
          .top_k = 0,
          .top_p = 1.0f,
          .min_p = 0.0f,
          .seed_low = 1,
          .seed_high = 0,
          .sample_index = 0,
          .output_position = 0};
}

DrawRow Plain(int32_t logits_row = 0) {
  DrawRow row = Greedy(logits_row);
  row.temperature = 1.0f;
  return row;
}

// --- The definition, word by word ---

// The tokens that top-k, top-p and min-p leave of finite logits, by sorting. Index by token.
std::vector<bool> Kept(const DrawRow& row, const std::vector<float>& logits,
                       const std::vector<float>& scaled) {
  std::vector<int32_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return logits[a] > logits[b]; });
  if (row.top_k > 0) order.resize(std::min<size_t>(row.top_k, order.size()));
  const auto weight = [&](int32_t id) { return kernels::FixedWeight(kernels::PortableExp(scaled[id])); };
  if (row.top_p < 1.0f) {
    int64_t total = 0, sum = 0;
    for (const int32_t id : order) total += weight(id);
    size_t count = 0;
    while (sum < kernels::WeightGoal(row.top_p, total)) sum += weight(order[count++]);
    order.resize(count);
  }
  std::vector<bool> kept(scaled.size(), false);
  for (const int32_t id : order) {
    kept[id] = row.min_p == 0.0f || scaled[id] >= static_cast<float>(kernels::PortableLog(row.min_p));
  }
  return kept;
}

int32_t DrawByDefinition(const DrawRow& row, const std::vector<float>& logits) {
  const float highest = *std::max_element(logits.begin(), logits.end());
  std::vector<float> scaled;
  for (const float logit : logits) scaled.push_back((logit - highest) / row.temperature);
  const std::vector<bool> kept = Kept(row, logits, scaled);
  int32_t best = -1;
  double best_sum = 0;
  for (uint32_t id = 0; id < logits.size(); ++id) {
    if (!kept[id]) continue;
    const std::array<uint32_t, 4> bits = kernels::Philox4x32(
        {id / 4, row.output_position, row.sample_index, 0}, {row.seed_low, row.seed_high});
    const double sum = logits[id] + row.temperature * kernels::GumbelNoise(bits[id % 4]);
    if (best >= 0 && sum <= best_sum) continue;
    best = static_cast<int32_t>(id);
    best_sum = sum;
  }
  return best;
}

// The draw on the host, which the tests of the engine's sampler hold to the definition.
int32_t DrawOnHost(const DrawRow& row, const std::vector<float>& logits) {
  std::vector<float> scratch(logits.size());
  std::vector<int32_t> order(logits.size());
  return kernels::DrawToken(row, logits, kernels::FindPeak(logits), {scratch, order});
}

// --- Random rows and logits ---

// Parameters of every kind, alone and together.
DrawRow RandomRow(Random& random, int32_t logits_row, int vocab) {
  DrawRow row = Plain(logits_row);
  constexpr float kTemperatures[] = {1.0f, 1.0f, 0.7f, 1.3f, 0.05f, 20.0f};
  row.temperature = kTemperatures[random.Below(6)];
  if (random.Below(2) == 0) {
    const int top_ks[] = {1, 2, 20, 50, 129, 1000, vocab - 1, vocab, vocab + 7};
    row.top_k = std::max(top_ks[random.Below(9)], 1);
  }
  constexpr float kTopPs[] = {0.95f, 0.5f, 0.1f, 1e-6f, 0.999999f, 0.8f};
  if (random.Below(2) == 0) row.top_p = kTopPs[random.Below(6)];
  constexpr float kMinPs[] = {0.05f, 0.5f, 1.0f, 1e-8f};
  if (random.Below(4) == 0) row.min_p = kMinPs[random.Below(4)];
  row.seed_low = random.Below(1 << 30);
  row.seed_high = random.Below(3);
  row.sample_index = random.Below(5);
  row.output_position = random.Below(200000);
  return row;
}

// Bell-shaped, narrow and wide; few distinct values; all equal; a few far above the rest.
std::vector<float> RandomLogits(Random& random, int vocab) {
  const int kind = random.Below(6);
  constexpr float kSpreads[] = {3.0f, 0.1f, 12.0f, 2.0f, 0.0f, 1.0f};
  std::vector<float> logits = random.Normals(vocab, kSpreads[kind]);
  if (kind == 3) {
    for (float& logit : logits) logit = std::round(logit);
  }
  if (kind == 5) {
    for (int i = 0; i < 20; ++i) logits[random.Below(vocab)] += 10.0f;
  }
  return logits;
}

class DrawTest : public BackendTest {
 protected:
  // Rows of logits lie apart, with NaN between them, which belong to nobody.
  std::vector<int32_t> Draw(const std::vector<std::vector<float>>& logits, const std::vector<DrawRow>& rows,
                            int num_threads = 2, int gap = 3) {
    const size_t vocab = logits[0].size(), stride = vocab + gap;
    std::vector<float> all(logits.size() * stride, kNan);
    for (size_t i = 0; i < logits.size(); ++i) {
      std::copy(logits[i].begin(), logits[i].end(), all.begin() + i * stride);
    }
    const DeviceArray<float> device_logits = Upload(all);
    const DeviceArray<DrawRow> device_rows = Upload(rows);
    const DeviceArray<int32_t> ids = Poisoned<int32_t>(rows.size());
    backend().Draw({.logits = device_logits.data(),
                    .logits_stride = static_cast<int64_t>(stride),
                    .vocab = static_cast<int>(vocab),
                    .rows = device_rows.data(),
                    .num_rows = static_cast<int>(rows.size()),
                    .ids = ids.data()},
                   stream(num_threads));
    return ids.Read();
  }

  int32_t DrawOne(const std::vector<float>& logits, const DrawRow& row) { return Draw({logits}, {row})[0]; }

  // How often each token is drawn at positions 0 .. draws - 1.
  std::vector<int> Count(const std::vector<float>& logits, const DrawRow& row, int draws) {
    std::vector<DrawRow> rows(draws, row);
    for (int i = 0; i < draws; ++i) rows[i].output_position = i;
    std::vector<int> count(logits.size());
    for (const int32_t id : Draw({logits}, rows)) ++count[id];
    return count;
  }
};

TEST_P(DrawTest, GreedyTakesTheLowestIdOfTheHighest) {
  for (int vocab : {1, 7, 1000, 32768, 128256}) {
    Random random(vocab);
    std::vector<float> logits = random.Normals(vocab, 2.0f);
    EXPECT_EQ(DrawOne(logits, Greedy()), std::max_element(logits.begin(), logits.end()) - logits.begin());
    for (int round = 0; round < 20; ++round) {
      const int a = random.Below(vocab), b = random.Below(vocab);
      std::vector<float> ties(vocab, -1.0f);
      ties[a] = ties[b] = round % 2 == 0 ? 1.0f : 0.0f;
      if (round % 4 == 1) ties[std::min(a, b)] = -0.0f;
      EXPECT_EQ(DrawOne(ties, Greedy()), std::min(a, b)) << vocab;
    }
    EXPECT_EQ(DrawOne(std::vector<float>(vocab, 0.5f), Greedy()), 0);
  }
}

TEST_P(DrawTest, ANanAnywhereIsNoToken) {
  for (int vocab : {1, 7, 1001, 128256}) {
    Random random(vocab);
    for (int at : {0, vocab / 2, vocab - 1, random.Below(vocab)}) {
      std::vector<float> logits = random.Normals(vocab, 1.0f);
      logits[random.Below(vocab)] = kInf;
      logits[at] = at % 2 == 0 ? kNan : -kNan;
      EXPECT_EQ(Draw({logits}, {Greedy(), Plain()}), (std::vector<int32_t>{-1, -1})) << at << " of " << vocab;
    }
  }
}

TEST_P(DrawTest, Infinities) {
  DrawRow top_p = Plain(), top_k = Plain(), both = Plain(), min_p = Plain();
  top_p.top_p = both.top_p = 0.9f;
  top_k.top_k = 2;
  both.top_k = 3;
  min_p.min_p = 0.5f;
  for (int vocab : {5, 1001, 32768}) {
    std::vector<float> nothing(vocab, -kInf);
    std::vector<float> one(vocab, -kInf);
    one[vocab - 2] = -1e30f;
    std::vector<float> two(vocab, 100.0f);
    two[1] = two[vocab - 2] = kInf;
    two[vocab - 1] = -kInf;
    for (const DrawRow& row : {Greedy(), Plain(), top_p, top_k, both, min_p}) {
      EXPECT_EQ(DrawOne(nothing, row), 0);
      EXPECT_EQ(DrawOne(one, row), vocab - 2);
      for (const int32_t id : Draw({two}, std::vector<DrawRow>(10, row))) {
        EXPECT_EQ(id, row.temperature == 0.0f ? 1 : DrawOnHost(row, two));
      }
    }
    const std::vector<int> count = Count(two, Plain(), 1000);
    EXPECT_EQ(count[1] + count[vocab - 2], 1000);
    EXPECT_GT(count[1], 400);
    EXPECT_GT(count[vocab - 2], 400);
  }
}

TEST_P(DrawTest, ExtremeTemperatures) {
  for (float temperature : {1e-44f, 1e-30f, 1e-3f, 1e6f, 3e38f}) {
    DrawRow row = Plain();
    row.temperature = temperature;
    for (float scale : {1.0f, 1e-30f, 1e37f}) {
      Random random(11);
      std::vector<float> logits = random.Normals(1000, scale);
      logits[10] = logits[700] = *std::max_element(logits.begin(), logits.end());
      for (int position = 0; position < 20; ++position) {
        row.output_position = position;
        EXPECT_EQ(DrawOne(logits, row), DrawOnHost(row, logits)) << temperature << " of " << scale;
      }
    }
  }
}

TEST_P(DrawTest, PaddingReadsAndWritesNothing) {
  for (const int32_t id : Draw({{kNan, kNan, kNan}}, {Greedy(-1), Plain(-1)})) EXPECT_TRUE(IsPoison(id));
}

TEST_P(DrawTest, FollowsTheDefinition) {
  Random random(3);
  for (int vocab : {1, 2, 3, 4, 5, 7, 31, 32, 33, 100, 255, 1000, 4099}) {
    std::vector<std::vector<float>> logits;
    std::vector<DrawRow> rows;
    for (int i = 0; i < 8; ++i) {
      logits.push_back(RandomLogits(random, vocab));
      for (int j = 0; j < 12; ++j) rows.push_back(RandomRow(random, i, vocab));
    }
    const std::vector<int32_t> ids = Draw(logits, rows);
    for (size_t i = 0; i < rows.size(); ++i) {
      EXPECT_EQ(ids[i], DrawByDefinition(rows[i], logits[rows[i].logits_row]))
          << "vocabulary " << vocab << ", temperature " << rows[i].temperature << ", top-k " << rows[i].top_k
          << ", top-p " << rows[i].top_p << ", min-p " << rows[i].min_p;
    }
  }
}

// Every device draws what the host draws, at every position, seed and sample, with rows of all kinds in one
// call; of aligned rows of logits and of others.
TEST_P(DrawTest, AgreesWithTheHost) {
  Random random(5);
  const int share = on_cuda() ? 1 : 10;  // the CPU compares with itself
  for (const auto& [vocab, count] : std::map<int, int>{{7, 800}, {151, 800}, {32768, 400}, {128256, 200}}) {
    for (int gap : {0, 1, 4}) {
      std::vector<std::vector<float>> logits;
      for (int i = 0; i < 6; ++i) {
        logits.push_back(RandomLogits(random, vocab));
        if (i % 2 == 0) continue;
        for (int j = 0; j < vocab; j += 1 + random.Below(9)) logits.back()[j] = -kInf;
      }
      std::vector<DrawRow> rows;
      for (int i = 0; i < count / share; ++i) rows.push_back(RandomRow(random, random.Below(6), vocab));
      const std::vector<int32_t> ids = Draw(logits, rows, 2, gap);
      for (size_t i = 0; i < rows.size(); ++i) {
        EXPECT_EQ(ids[i], DrawOnHost(rows[i], logits[rows[i].logits_row]))
            << "vocabulary " << vocab << ", gap " << gap << ", row of logits " << rows[i].logits_row
            << ", temperature " << rows[i].temperature << ", top-k " << rows[i].top_k << ", top-p "
            << rows[i].top_p << ", min-p " << rows[i].min_p;
      }
    }
  }
}

// A row alone draws what it draws in company, on one, two and three threads.
TEST_P(DrawTest, ARowDependsOnNothingElse) {
  Random random(7);
  constexpr int kVocab = 5003;
  std::vector<std::vector<float>> logits;
  std::vector<DrawRow> rows;
  for (int i = 0; i < 40; ++i) {
    logits.push_back(RandomLogits(random, kVocab));
    rows.push_back(RandomRow(random, i, kVocab));
  }
  const std::vector<int32_t> together = Draw(logits, rows, 1);
  for (int num_threads : {2, 3}) EXPECT_TRUE(SameBits(Draw(logits, rows, num_threads), together));
  for (int i = 0; i < 40; ++i) {
    DrawRow row = rows[i];
    row.logits_row = 0;
    EXPECT_EQ(DrawOne(logits[i], row), together[i]);
  }
}

// The quantile at 0.999 of the chi-square distribution with 7 degrees of freedom.
constexpr double kChi7 = 24.32;

TEST_P(DrawTest, TheTemperatureShapesTheDistribution) {
  const std::vector<float> logits = {0, 0.5f, 1, 1.5f, 2, -1, -2, 0.25f};
  constexpr int kDraws = 20000;
  for (float temperature : {0.5f, 1.0f, 2.0f}) {
    DrawRow row = Plain();
    row.seed_low = 5;
    row.temperature = temperature;
    double sum = 0;
    for (const float logit : logits) sum += std::exp(logit / temperature);
    const std::vector<int> count = Count(logits, row, kDraws);
    double statistic = 0;
    for (size_t id = 0; id < logits.size(); ++id) {
      const double expected = kDraws * std::exp(logits[id] / temperature) / sum;
      statistic += (count[id] - expected) * (count[id] - expected) / expected;
    }
    EXPECT_LT(statistic, kChi7) << temperature;
  }
}

YOIO_TEST_ON_BACKENDS(DrawTest);

}  // namespace
}  // namespace yoio::test
