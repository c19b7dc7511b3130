#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "kernels/logit_math.h"
#include "tests/support/backend_test.h"
#include "tests/support/compare.h"
#include "tests/support/random.h"

namespace yoio::test {
namespace {

using kernels::LogprobRow;
using kernels::TokenLogprob;

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr int kMaxTop = 20;

class LogprobsTest : public BackendTest {
 protected:
  std::vector<TokenLogprob> Logprobs(int vocab, const std::vector<float>& logits,
                                     const std::vector<LogprobRow>& rows,
                                     const std::vector<int32_t>& drawn = {}) {
    const DeviceArray<float> device_logits = Upload(logits);
    const DeviceArray<LogprobRow> device_rows = Upload(rows);
    const DeviceArray<int32_t> device_drawn = Upload(drawn);
    const DeviceArray<TokenLogprob> out = Poisoned<TokenLogprob>(rows.size() * (1 + kMaxTop));
    backend().Logprobs({.logits = device_logits.data(),
                        .logits_stride = vocab,
                        .vocab = vocab,
                        .rows = device_rows.data(),
                        .num_rows = static_cast<int>(rows.size()),
                        .drawn = device_drawn.data(),
                        .max_top = kMaxTop,
                        .out = out.data()},
                       stream());
    return out.Read();
  }
};

// The tokens of one row, with log-probabilities of the library in double.
struct Expected {
  explicit Expected(const std::vector<float>& logits) : logprobs(logits.size()), order(logits.size()) {
    const double highest = *std::max_element(logits.begin(), logits.end());
    double sum = 0;
    for (const float logit : logits) sum += std::exp(logit - highest);
    for (size_t id = 0; id < logits.size(); ++id) logprobs[id] = logits[id] - highest - std::log(sum);
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return logits[a] > logits[b]; });
  }
  std::vector<double> logprobs;
  std::vector<int32_t> order;  // best first
};

// PortableExp is off by 2e-7 and FixedWeight cuts off 2^-42 a token; the result is rounded to a float.
void ExpectNear(float logprob, double expected, int vocab) {
  EXPECT_NEAR(logprob, expected, 4e-7 + vocab * 0x1p-42 + 0x1p-23 * std::abs(expected));
}

TEST_P(LogprobsTest, AgreesWithTheLibrary) {
  Random random(3);
  for (const int vocab : {1, 2, 21, 130, 1000, 4099, 50257}) {
    constexpr int kLogitsRows = 4;
    std::vector<std::vector<float>> of_row;
    std::vector<float> logits;
    for (const float spread : {3.0f, 0.0f, 10.0f, 1.0f}) {
      of_row.push_back(random.Normals(vocab, spread));
      if (spread == 1.0f) {
        for (float& x : of_row.back()) x = std::round(x);  // ties
      }
      logits.insert(logits.end(), of_row.back().begin(), of_row.back().end());
    }
    std::vector<LogprobRow> rows;
    std::vector<int32_t> drawn;
    for (int i = 0; i < 3 * kLogitsRows; ++i) {
      const int32_t id = random.Below(vocab);
      const int top_n =
          std::min(vocab, static_cast<int>(i < kLogitsRows ? kMaxTop : random.Below(kMaxTop + 1)));
      drawn.push_back(id);
      rows.push_back({i % kLogitsRows, i % 2 == 0 ? id : -1 - i, top_n});
    }
    const std::vector<TokenLogprob> out = Logprobs(vocab, logits, rows, drawn);
    for (size_t i = 0; i < rows.size(); ++i) {
      const Expected expected(of_row[rows[i].logits_row]);
      const TokenLogprob* row = &out[i * (1 + kMaxTop)];
      EXPECT_EQ(row[0].id, drawn[i]);
      ExpectNear(row[0].logprob, expected.logprobs[drawn[i]], vocab);
      for (int place = 0; place < kMaxTop; ++place) {
        if (place >= rows[i].top_n) {
          EXPECT_TRUE(IsPoison(row[1 + place])) << "written behind top_n";
          continue;
        }
        EXPECT_EQ(row[1 + place].id, expected.order[place]) << "vocab " << vocab << ", place " << place;
        ExpectNear(row[1 + place].logprob, expected.logprobs[expected.order[place]], vocab);
      }
    }
  }
}

TEST_P(LogprobsTest, HasTheBitsOfTheDefinition) {
  constexpr int kVocab = 33333;
  Random random(4);
  const std::vector<float> logits = random.Normals(kVocab, 5.0f);
  const float highest = *std::max_element(logits.begin(), logits.end());
  int64_t weight = 0;
  for (const float logit : logits) weight += kernels::FixedWeight(kernels::PortableExp(logit - highest));
  const kernels::LogSoftmax logprob(highest, weight);
  std::vector<LogprobRow> rows;
  for (int i = 0; i < 50; ++i) rows.push_back({0, static_cast<int32_t>(random.Below(kVocab)), 0});
  const std::vector<TokenLogprob> out = Logprobs(kVocab, logits, rows);
  for (size_t i = 0; i < rows.size(); ++i) {
    EXPECT_EQ(out[i * (1 + kMaxTop)].logprob, logprob(logits[rows[i].id])) << rows[i].id;
  }
}

TEST_P(LogprobsTest, Infinities) {
  const std::vector<float> logits = {kInf, 0, kInf, -kInf, 0, 0, -kInf, -kInf, -kInf};
  const std::vector<TokenLogprob> out = Logprobs(3, logits, {{0, 2, 3}, {0, 1, 0}, {1, 0, 3}, {2, 1, 3}});
  const auto at = [&](int row, int place) { return out[row * (1 + kMaxTop) + place]; };
  EXPECT_NEAR(at(0, 0).logprob, std::log(0.5), 1e-6);
  EXPECT_EQ(at(0, 1).id, 0);
  EXPECT_NEAR(at(0, 1).logprob, std::log(0.5), 1e-6);
  EXPECT_EQ(at(0, 2).id, 2);
  EXPECT_EQ(at(0, 3).id, 1);
  EXPECT_EQ(at(0, 3).logprob, -kInf);
  EXPECT_EQ(at(1, 0).logprob, -kInf);
  EXPECT_EQ(at(2, 0).logprob, -kInf);
  EXPECT_EQ(at(2, 1).id, 1);
  EXPECT_EQ(at(2, 2).id, 2);
  EXPECT_EQ(at(2, 3).id, -1) << "no alternative without probability";
  EXPECT_EQ(at(3, 0).logprob, -kInf);
  for (int place = 1; place <= 3; ++place) EXPECT_EQ(at(3, place).id, -1);
}

TEST_P(LogprobsTest, NanAndNoToken) {
  const std::vector<float> logits = {1, kNan, 2, 1, 0, 2};
  const std::vector<TokenLogprob> out = Logprobs(3, logits, {{0, 0, 2}, {1, -1, 1}, {1, -2, 1}}, {-1, 2});
  const auto at = [&](int row, int place) { return out[row * (1 + kMaxTop) + place]; };
  EXPECT_TRUE(std::isnan(at(0, 0).logprob));
  EXPECT_EQ(at(0, 1).id, -1);
  EXPECT_EQ(at(0, 2).id, -1);
  EXPECT_TRUE(std::isnan(at(1, 0).logprob)) << "nothing was drawn";
  EXPECT_EQ(at(1, 1).id, -1);
  EXPECT_EQ(at(2, 0).id, 2);
  EXPECT_EQ(at(2, 1).id, 2);
  EXPECT_EQ(at(2, 1).logprob, at(2, 0).logprob);
}

TEST_P(LogprobsTest, PaddingIsNotWritten) {
  const std::vector<TokenLogprob> out = Logprobs(3, {1, 2, 3}, {{-1, 0, 3}, {0, 0, 0}});
  for (int place = 0; place <= kMaxTop; ++place) EXPECT_TRUE(IsPoison(out[place]));
  EXPECT_EQ(out[1 + kMaxTop].id, 0);
}

YOIO_TEST_ON_BACKENDS(LogprobsTest);

}  // namespace
}  // namespace yoio::test
