#include <cmath>
#include <limits>

#include "tests/support/backend_test.h"
#include "tests/support/compare.h"
#include "tests/support/random.h"

namespace yoio::test {
namespace {

class SiluGateTest : public BackendTest {
 protected:
  std::vector<float> Run(const std::vector<float>& gate_up, int ffn, int num_threads = 2) {
    const ActivationArray in = Activations(gate_up);
    const ActivationArray out = PoisonedActivations(gate_up.size() / 2);
    backend().SiluGate({.gate_up = in.data(),
                        .num_rows = static_cast<int>(gate_up.size()) / (2 * ffn),
                        .ffn = ffn,
                        .out = out.data()},
                       stream(num_threads));
    return out.Read();
  }
};

// An exponential, a sum, a quotient and two products: ten roundings cover them. A device's fast exponential
// rounds its argument times log2(e), which costs another one for each of its units.
double Relative(double gate) { return (10.0 + 2.0 * std::abs(gate)) * kFloatUnit; }

TEST_P(SiluGateTest, MatchesTheDefinition) {
  for (const int ffn : {1, 15, 96, 257, 896, 7680}) {
    for (const int num_rows : {1, 3, 65}) {
      SCOPED_TRACE(testing::Message() << "ffn " << ffn << ", rows " << num_rows);
      Random random(ffn + num_rows);
      const std::vector<float> in =
          Activations(random.Normals(static_cast<size_t>(num_rows) * 2 * ffn, 4.0f)).values();
      std::vector<double> expected, bound;
      for (int row = 0; row < num_rows; ++row) {
        for (int i = 0; i < ffn; ++i) {
          const double gate = in[static_cast<size_t>(row) * 2 * ffn + i];
          const double up = in[(static_cast<size_t>(row) * 2 + 1) * ffn + i];
          expected.push_back(gate / (1.0 + std::exp(-gate)) * up);
          bound.push_back((Relative(gate) + activation_unit() * (1.0 + Relative(gate))) *
                          std::abs(expected.back()));
        }
      }
      EXPECT_TRUE(AllNear(Run(in, ffn), expected, bound));
    }
  }
}

TEST_P(SiluGateTest, HoldsAtTheExtremes) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
  const std::vector<float> gate = {0.0f, 1e30f, -1e30f, 200.0f, -200.0f, kInfinity, kNaN, 1.0f};
  std::vector<float> in = gate;
  in.insert(in.end(), {1, 1, 1, 1, 1, 1, 1, kNaN});
  const std::vector<float> out = Run(in, static_cast<int>(gate.size()));
  EXPECT_EQ(out[0], 0.0f);
  EXPECT_EQ(out[1], Activations({1e30f}).values()[0]);
  EXPECT_NEAR(out[2], 0.0f, 1e-30);
  EXPECT_EQ(out[3], 200.0f);
  EXPECT_NEAR(out[4], 0.0f, 1e-30);
  EXPECT_EQ(out[5], kInfinity);
  EXPECT_TRUE(std::isnan(out[6]));
  EXPECT_TRUE(std::isnan(out[7]));
}

TEST_P(SiluGateTest, RowsDoNotDependOnOthersNorOnThreads) {
  constexpr int kFfn = 301, kRows = 67;
  Random random(2);
  const std::vector<float> in = random.Normals(kRows * 2 * kFfn, 3.0f);
  const std::vector<float> all = Run(in, kFfn, 1);
  for (const int num_threads : {2, 3}) EXPECT_TRUE(SameBits(Run(in, kFfn, num_threads), all));
  for (const int row : {0, 33, kRows - 1}) {
    const std::vector<float> alone(in.begin() + row * 2 * kFfn, in.begin() + (row + 1) * 2 * kFfn);
    const std::vector<float> expected(all.begin() + row * kFfn, all.begin() + (row + 1) * kFfn);
    EXPECT_TRUE(SameBits(Run(alone, kFfn), expected));
  }
}

YOIO_TEST_ON_BACKENDS(SiluGateTest);

}  // namespace
}  // namespace yoio::test
