#include <cmath>

#include "tests/support/backend_test.h"
#include "tests/support/compare.h"
#include "tests/support/random.h"

namespace yoio::test {
namespace {

using kernels::BFloat16;
using kernels::DType;

// A weight matrix [2 * ffn, hidden] in device memory, and its values as stored.
struct Weights {
  DeviceArray<BFloat16> halves;
  std::vector<float> values;
  int ffn, hidden;
};

class GateUpTest : public BackendTest {
 protected:
  static constexpr int kTogether = 64;  // as in mat_mul_test.cc

  Weights MakeWeights(int ffn, int hidden, Random& random) {
    // Gates of a size at which silu bends.
    std::vector<float> values =
        random.Normals(size_t{2} * ffn * hidden, 2.0f / std::sqrt(static_cast<float>(hidden)));
    std::vector<BFloat16> halves;
    for (float& value : values) {
      halves.push_back(kernels::ToBFloat16(value));
      value = kernels::ToFloat(halves.back());
    }
    return {Upload(halves), values, ffn, hidden};
  }

  // Rows [begin, end) of x, the first `num_prompt_rows` of them as prompt rows.
  std::vector<float> Run(const ActivationArray& x, const Weights& w, int begin, int end,
                         int num_prompt_rows) {
    const size_t num_rows = end - begin;
    const ActivationArray scratch = PoisonedActivations(num_rows * 2 * w.ffn);
    const ActivationArray out = PoisonedActivations(num_rows * w.ffn);
    backend().GateUp({.x = x.at(static_cast<size_t>(begin) * w.hidden),
                      .w = {w.halves.data(), DType::kBF16, 2 * w.ffn, w.hidden},
                      .num_rows = end - begin,
                      .num_prompt_rows = num_prompt_rows,
                      .scratch = scratch.data(),
                      .out = out.data()},
                     stream());
    scratch.Read();  // its guards hold
    return out.Read();
  }
};

// A dot product, and how far off an implementation may be.
struct Sum {
  double value = 0.0, bound = 0.0;
};

Sum Dot(const float* x, const float* w, int terms, double sum_errors) {
  Sum sum;
  for (int i = 0; i < terms; ++i) {
    const double product = double{x[i]} * w[i];
    sum.value += product;
    sum.bound += std::abs(product);
  }
  sum.bound = sum_errors * DotBound(terms, sum.bound);
  return sum;
}

// Rounded to activations, or not, before it is used.
void MaybeRound(Sum& sum, double unit) { sum.bound += unit * (std::abs(sum.value) + sum.bound); }

TEST_P(GateUpTest, MatchesTheDefinition) {
  constexpr double kSlope = 1.1;                    // of silu, at most
  constexpr double kGate = 64 * kFloatUnit;         // of the exponential and the quotient, relative
  const double sum_errors = on_cuda() ? 2.0 : 1.0;  // as in mat_mul_test.cc
  constexpr int kShapes[][2] = {{8, 8}, {96, 64}, {128, 72}, {896, 320}, {1480, 256}, {9000, 64}};
  for (const auto& [ffn, hidden] : kShapes) {
    Random random(ffn + hidden);
    const Weights w = MakeWeights(ffn, hidden, random);
    for (const int num_rows : {1, 3, 17, 40, 66}) {
      SCOPED_TRACE(testing::Message() << "ffn " << ffn << ", hidden " << hidden << ", rows " << num_rows);
      const ActivationArray x = Activations(random.Normals(static_cast<size_t>(num_rows) * hidden));
      std::vector<double> expected, bound;
      for (int row = 0; row < num_rows; ++row) {
        const float* x_row = x.values().data() + static_cast<size_t>(row) * hidden;
        for (int i = 0; i < ffn; ++i) {
          Sum gate = Dot(x_row, w.values.data() + static_cast<size_t>(i) * hidden, hidden, sum_errors);
          Sum up = Dot(x_row, w.values.data() + static_cast<size_t>(ffn + i) * hidden, hidden, sum_errors);
          // What two passes write in between.
          MaybeRound(gate, activation_unit());
          MaybeRound(up, activation_unit());
          const double silu = gate.value / (1.0 + std::exp(-gate.value));
          const double silu_bound = kSlope * gate.bound + kGate * std::abs(silu);
          Sum product = {silu * up.value,
                         silu_bound * (std::abs(up.value) + up.bound) + std::abs(silu) * up.bound};
          MaybeRound(product, activation_unit());
          expected.push_back(product.value);
          bound.push_back(product.bound);
        }
      }
      EXPECT_TRUE(AllNear(Run(x, w, 0, num_rows, num_rows / 2), expected, bound));
    }
  }
}

std::vector<float> Rows(const std::vector<float>& values, int width, int begin, int end) {
  return {values.begin() + static_cast<size_t>(begin) * width,
          values.begin() + static_cast<size_t>(end) * width};
}

TEST_P(GateUpTest, ARowHasTheSameBitsInAnyCompany) {
  constexpr int kShapes[][2] = {{96, 64}, {896, 320}, {40, 1536}};
  for (const auto& [ffn, hidden] : kShapes) {
    Random random(ffn - hidden);
    const Weights w = MakeWeights(ffn, hidden, random);
    const ActivationArray x = Activations(random.Normals(static_cast<size_t>(kTogether) * hidden));
    const std::vector<float> all = Run(x, w, 0, kTogether, 0);
    for (int count = 1; count < kTogether; ++count) {
      const int begin = (kTogether - count) * (count % 3) / 2;
      ASSERT_TRUE(SameBits(Run(x, w, begin, begin + count, 0), Rows(all, ffn, begin, begin + count)))
          << "ffn " << ffn << ", hidden " << hidden << ", rows " << begin << " to " << begin + count;
    }
  }
}

TEST_P(GateUpTest, KindsOfRowsDoNotMix) {
  constexpr int kRows = 40, kPrompt = 23, kFfn = 896, kHidden = 320;
  Random random(4);
  const Weights w = MakeWeights(kFfn, kHidden, random);
  const ActivationArray x = Activations(random.Normals(kRows * kHidden));
  const std::vector<float> mixed = Run(x, w, 0, kRows, kPrompt);
  EXPECT_TRUE(SameBits(Rows(mixed, kFfn, 0, kPrompt), Run(x, w, 0, kPrompt, kPrompt)));
  EXPECT_TRUE(SameBits(Rows(mixed, kFfn, kPrompt, kRows), Run(x, w, kPrompt, kRows, 0)));
}

TEST_P(GateUpTest, NoRowsWriteNothing) {
  Random random(5);
  const Weights w = MakeWeights(16, 16, random);
  const ActivationArray x = PoisonedActivations(16), scratch = PoisonedActivations(32),
                        out = PoisonedActivations(16);
  backend().GateUp({.x = x.data(),
                    .w = {w.halves.data(), DType::kBF16, 32, 16},
                    .num_rows = 0,
                    .num_prompt_rows = 0,
                    .scratch = scratch.data(),
                    .out = out.data()},
                   stream());
  for (const float value : out.Read()) EXPECT_TRUE(IsPoison(value));
}

YOIO_TEST_ON_BACKENDS(GateUpTest);

}  // namespace
}  // namespace yoio::test
