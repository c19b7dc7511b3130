#include <cmath>

#include "tests/support/backend_test.h"
#include "tests/support/compare.h"
#include "tests/support/random.h"

namespace yoio::test {
namespace {

constexpr float kEps = 1e-6f;

class RmsNormTest : public BackendTest {
 protected:
  struct Result {
    std::vector<float> x;
    std::vector<float> out;
  };

  // An empty delta or weight stands for a null pointer.
  Result Run(const std::vector<float>& x, const std::vector<float>& delta, const std::vector<float>& weight,
             int hidden, int num_threads = 2, bool starts = false) {
    const DeviceArray<float> device_x = Upload(x);
    const ActivationArray device_delta = Activations(delta);
    const DeviceArray<float> device_weight = Upload(weight);
    const ActivationArray out = PoisonedActivations(x.size());
    backend().ResidualRmsNorm({.x = device_x.data(),
                               .delta = delta.empty() ? nullptr : device_delta.data(),
                               .weight = weight.empty() ? nullptr : device_weight.data(),
                               .eps = kEps,
                               .num_rows = static_cast<int>(x.size()) / hidden,
                               .hidden = hidden,
                               .out = weight.empty() ? nullptr : out.data(),
                               .starts = starts},
                              stream(num_threads));
    return {device_x.Read(), out.Read()};
  }

  // A sum of squares has no cancellation, so its relative error is that of its additions; the root halves it.
  // The result is then rounded to an activation.
  std::vector<double> Bound(const std::vector<double>& expected, int hidden) const {
    std::vector<double> bound;
    for (const double value : expected) {
      const double computed = DotBound(hidden / 2 + 6, std::abs(value));
      bound.push_back(computed + activation_unit() * (std::abs(value) + computed));
    }
    return bound;
  }
};

// The norm in double, of the float sums that the operation must form.
std::vector<double> Reference(const std::vector<float>& sum, const std::vector<float>& weight, int hidden) {
  std::vector<double> out(sum.size());
  for (size_t row = 0; row < sum.size(); row += hidden) {
    double squares = 0.0;
    for (int j = 0; j < hidden; ++j) squares += double{sum[row + j]} * sum[row + j];
    const double scale = 1.0 / std::sqrt(squares / hidden + kEps);
    for (int j = 0; j < hidden; ++j) out[row + j] = sum[row + j] * scale * weight[j];
  }
  return out;
}

TEST_P(RmsNormTest, AddsThenNormalises) {
  for (int hidden : {1, 16, 40, 63, 64, 256, 320, 2560, 4096, 9000}) {
    SCOPED_TRACE(hidden);
    Random random(hidden);
    const std::vector<float> x = random.Normals(3 * hidden, 2.0f);
    const std::vector<float> delta = Activations(random.Normals(3 * hidden)).values();
    const std::vector<float> weight = random.Normals(hidden);
    std::vector<float> sum(x);
    for (size_t i = 0; i < sum.size(); ++i) sum[i] += delta[i];
    const Result result = Run(x, delta, weight, hidden);
    EXPECT_TRUE(SameBits(result.x, sum));
    const std::vector<double> expected = Reference(sum, weight, hidden);
    EXPECT_TRUE(AllNear(result.out, expected, Bound(expected, hidden)));
  }
}

TEST_P(RmsNormTest, WithoutDeltaLeavesXAlone) {
  Random random(7);
  const std::vector<float> x = random.Normals(2 * 96);
  const std::vector<float> weight = random.Normals(96);
  const Result result = Run(x, {}, weight, 96);
  EXPECT_TRUE(SameBits(result.x, x));
  const std::vector<double> expected = Reference(x, weight, 96);
  EXPECT_TRUE(AllNear(result.out, expected, Bound(expected, 96)));
}

TEST_P(RmsNormTest, WithoutWeightOnlyAdds) {
  const Result result = Run({1, 2, 3, 4}, {10, 20, 30, 40}, {}, 4);
  EXPECT_EQ(result.x, (std::vector<float>{11, 22, 33, 44}));
  for (float value : result.out) EXPECT_TRUE(IsPoison(value));
}

TEST_P(RmsNormTest, AResidualThatStartsForgetsWhatWasThere) {
  for (int hidden : {8, 63, 2560}) {
    Random random(hidden);
    const std::vector<float> nothing(2 * hidden, std::nanf(""));
    const std::vector<float> delta = Activations(random.Normals(2 * hidden)).values();
    const std::vector<float> weight = random.Normals(hidden);
    const Result result = Run(nothing, delta, weight, hidden, /*num_threads=*/2, /*starts=*/true);
    EXPECT_TRUE(SameBits(result.x, delta));
    const std::vector<double> expected = Reference(delta, weight, hidden);
    EXPECT_TRUE(AllNear(result.out, expected, Bound(expected, hidden)));
  }
}

TEST_P(RmsNormTest, ZeroRowStaysZero) {
  const Result result = Run(std::vector<float>(32, 0.0f), {}, std::vector<float>(32, 1.0f), 32);
  EXPECT_EQ(result.out, std::vector<float>(32, 0.0f));
}

TEST_P(RmsNormTest, RowsDoNotDependOnOthersNorOnThreads) {
  constexpr int kRows = 67;
  for (const int hidden : {63, 640, 2560}) {
    Random random(8);
    const std::vector<float> x = random.Normals(kRows * hidden);
    const std::vector<float> delta = random.Normals(kRows * hidden);
    const std::vector<float> weight = random.Normals(hidden);
    const Result all = Run(x, delta, weight, hidden, 1);
    for (int num_threads : {2, 3}) {
      EXPECT_TRUE(SameBits(Run(x, delta, weight, hidden, num_threads).out, all.out));
    }
    for (int row : {0, 33, kRows - 1}) {
      const auto cut = [row, hidden](const std::vector<float>& values) {
        return std::vector<float>(values.begin() + row * hidden, values.begin() + (row + 1) * hidden);
      };
      EXPECT_TRUE(SameBits(Run(cut(x), cut(delta), weight, hidden).out, cut(all.out)));
    }
  }
}

YOIO_TEST_ON_BACKENDS(RmsNormTest);

}  // namespace
}  // namespace yoio::test
