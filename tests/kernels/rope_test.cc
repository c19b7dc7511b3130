#include <cmath>

#include "tests/support/backend_test.h"
#include "tests/support/compare.h"
#include "tests/support/random.h"

namespace yoio::test {
namespace {

class RopeTest : public BackendTest {
 protected:
  struct Table {
    std::vector<float> cos;
    std::vector<float> sin;
  };

  Table MakeTable(const std::vector<int32_t>& positions, int head_dim, double theta, int num_threads = 2) {
    const DeviceArray<int32_t> device_positions = Upload(positions);
    const DeviceArray<float> cos = Poisoned<float>(positions.size() * head_dim / 2);
    const DeviceArray<float> sin = Poisoned<float>(positions.size() * head_dim / 2);
    backend().RopeTable({.positions = device_positions.data(),
                         .num_tokens = static_cast<int>(positions.size()),
                         .head_dim = head_dim,
                         .theta = theta,
                         .cos = cos.data(),
                         .sin = sin.data()},
                        stream(num_threads));
    return {cos.Read(), sin.Read()};
  }

  // Rows of num_heads heads, row_stride apart. An empty weight or table stands for a null pointer.
  std::vector<float> NormRope(const std::vector<float>& x, int64_t row_stride, int num_heads, int head_dim,
                              const std::vector<float>& weight, const Table& table, int num_threads = 2) {
    const DeviceArray<float> device_x = Upload(x);
    const DeviceArray<float> device_weight = Upload(weight);
    const DeviceArray<float> cos = Upload(table.cos);
    const DeviceArray<float> sin = Upload(table.sin);
    backend().HeadNormRope({.x = device_x.data(),
                            .row_stride = row_stride,
                            .num_rows = static_cast<int>(x.size() / row_stride),
                            .num_heads = num_heads,
                            .head_dim = head_dim,
                            .weight = weight.empty() ? nullptr : device_weight.data(),
                            .eps = 1e-5f,
                            .cos = table.cos.empty() ? nullptr : cos.data(),
                            .sin = table.sin.empty() ? nullptr : sin.data()},
                           stream(num_threads));
    return device_x.Read();
  }
};

// Far positions are where an angle in float goes wrong: at one million it would be off by 0.03.
TEST_P(RopeTest, TableHoldsRoundedCosinesAtFarPositions) {
  const std::vector<int32_t> positions = {0, 1, 63, 4096, 131071, 1000003};
  const Table table = MakeTable(positions, 64, 10000.0);
  for (size_t i = 0; i < positions.size(); ++i) {
    for (int j = 0; j < 32; ++j) {
      const long double angle = positions[i] * std::pow(10000.0L, -2.0L * j / 64);
      EXPECT_NEAR(table.cos[i * 32 + j], std::cos(angle), 1.1 * kFloatUnit) << positions[i] << " " << j;
      EXPECT_NEAR(table.sin[i * 32 + j], std::sin(angle), 1.1 * kFloatUnit) << positions[i] << " " << j;
    }
  }
}

// The definition, written once more in double: norm, then rotation of the two halves. Between the heads and
// the end of a row lie columns that belong to somebody else.
TEST_P(RopeTest, NormsAndRotatesInPlace) {
  for (int head_dim : {2, 6, 16, 64, 128, 256}) {
    SCOPED_TRACE(head_dim);
    constexpr int kHeads = 3;
    const int64_t row_stride = kHeads * head_dim + 5;
    Random random(head_dim);
    const std::vector<float> x = random.Normals(4 * row_stride);
    const std::vector<float> weight = random.Normals(head_dim);
    const Table table = MakeTable({5, 0, 77, 9000}, head_dim, 500000.0);
    const std::vector<float> actual = NormRope(x, row_stride, kHeads, head_dim, weight, table);

    std::vector<double> expected(x.begin(), x.end());
    std::vector<double> bound(x.size(), 0.0);  // untouched columns keep their bits
    const int half = head_dim / 2;
    for (int row = 0; row < 4; ++row) {
      for (int head = 0; head < kHeads; ++head) {
        double* values = expected.data() + row * row_stride + head * head_dim;
        double squares = 0.0;
        for (int j = 0; j < head_dim; ++j) squares += values[j] * values[j];
        const double scale = 1.0 / std::sqrt(squares / head_dim + 1e-5);
        for (int j = 0; j < head_dim; ++j) values[j] *= scale * weight[j];
        for (int j = 0; j < half; ++j) {
          const double a = values[j], b = values[half + j];
          const double cos = table.cos[row * half + j], sin = table.sin[row * half + j];
          values[j] = a * cos - b * sin;
          values[half + j] = b * cos + a * sin;
          double* limits = bound.data() + row * row_stride + head * head_dim;
          limits[j] = limits[half + j] = DotBound(head_dim / 2 + 8, std::abs(a) + std::abs(b));
        }
      }
    }
    EXPECT_TRUE(AllNear(actual, expected, bound));
  }
}

TEST_P(RopeTest, NullWeightMeansNoNorm) {
  const Table table = {{0.0f, 0.0f}, {1.0f, 1.0f}};  // a quarter turn
  EXPECT_EQ(NormRope({1, 2, 3, 4}, 4, 1, 4, {}, table), (std::vector<float>{-3, -4, 1, 2}));
}

TEST_P(RopeTest, NullTableMeansNoRotation) {
  const std::vector<float> x = {3, -3, 3, 3};
  const std::vector<float> out = NormRope(x, 4, 1, 4, {1, 1, 2, 1}, {});
  const double scale = 1.0 / std::sqrt(9.0 + 1e-5);
  EXPECT_TRUE(AllNear(out, {3 * scale, -3 * scale, 6 * scale, 3 * scale}, 8 * kFloatUnit));
}

TEST_P(RopeTest, ThreadsChangeNothing) {
  Random random(9);
  constexpr int kRows = 61, kHeads = 8, kHeadDim = 64;
  std::vector<int32_t> positions(kRows);
  for (int32_t& position : positions) position = random.Below(200000);
  const std::vector<float> x = random.Normals(kRows * kHeads * kHeadDim);
  const std::vector<float> weight = random.Normals(kHeadDim);
  const Table alone = MakeTable(positions, kHeadDim, 10000.0, 1);
  const std::vector<float> out = NormRope(x, kHeads * kHeadDim, kHeads, kHeadDim, weight, alone, 1);
  for (int num_threads : {2, 3}) {
    const Table table = MakeTable(positions, kHeadDim, 10000.0, num_threads);
    EXPECT_TRUE(SameBits(table.cos, alone.cos));
    EXPECT_TRUE(SameBits(table.sin, alone.sin));
    EXPECT_TRUE(SameBits(NormRope(x, kHeads * kHeadDim, kHeads, kHeadDim, weight, table, num_threads), out));
  }
}

YOIO_TEST_ON_BACKENDS(RopeTest);

}  // namespace
}  // namespace yoio::test
