#include <cmath>

#include "tests/support/backend_test.h"
#include "tests/support/compare.h"
#include "tests/support/random.h"

namespace yoio::test {
namespace {

constexpr float kEps = 1e-5f;

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

  // What HeadNormRope is given beside its rows. An empty weight or table stands for a null pointer.
  struct Heads {
    int q_heads;
    int k_heads;
    int head_dim;
    std::vector<float> q_weight;
    std::vector<float> k_weight;
  };

  std::vector<float> NormRope(const std::vector<float>& x, int64_t row_stride, const Heads& heads,
                              const Table& table, int num_threads = 2) {
    const ActivationArray device_x = Activations(x);
    const DeviceArray<float> q_weight = Upload(heads.q_weight), k_weight = Upload(heads.k_weight);
    const DeviceArray<float> cos = Upload(table.cos), sin = Upload(table.sin);
    backend().HeadNormRope({.x = device_x.data(),
                            .row_stride = row_stride,
                            .num_rows = static_cast<int>(x.size() / row_stride),
                            .q_heads = heads.q_heads,
                            .k_heads = heads.k_heads,
                            .head_dim = heads.head_dim,
                            .q_weight = heads.q_weight.empty() ? nullptr : q_weight.data(),
                            .k_weight = heads.k_weight.empty() ? nullptr : k_weight.data(),
                            .eps = kEps,
                            .cos = table.cos.empty() ? nullptr : cos.data(),
                            .sin = table.sin.empty() ? nullptr : sin.data()},
                           stream(num_threads));
    return device_x.Read();
  }

  // The definition, written once more in double: norm, then rotation of the two halves. Columns that belong
  // to no head keep their bits.
  void ExpectReference(const std::vector<float>& normals, int64_t row_stride, const Heads& heads,
                       const Table& table) {
    const std::vector<float> x = Activations(normals).values();
    std::vector<double> expected(x.begin(), x.end());
    std::vector<double> bound(x.size(), 0.0);
    const int head_dim = heads.head_dim, half = head_dim / 2;
    for (size_t row = 0; row < x.size() / row_stride; ++row) {
      for (int head = 0; head < heads.q_heads + heads.k_heads; ++head) {
        double* values = expected.data() + row * row_stride + head * head_dim;
        double* limits = bound.data() + row * row_stride + head * head_dim;
        const std::vector<float>& weight = head < heads.q_heads ? heads.q_weight : heads.k_weight;
        double squares = 0.0;
        for (int j = 0; j < head_dim; ++j) squares += values[j] * values[j];
        const double scale = 1.0 / std::sqrt(squares / head_dim + kEps);
        for (int j = 0; j < head_dim; ++j) values[j] *= weight.empty() ? 1.0 : scale * weight[j];
        for (int j = 0; j < half; ++j) {
          const double a = values[j], b = values[half + j];
          const double cos = table.cos[row * half + j], sin = table.sin[row * half + j];
          values[j] = a * cos - b * sin;
          values[half + j] = b * cos + a * sin;
          const double computed = DotBound(head_dim / 2 + 8, std::abs(a) + std::abs(b));
          limits[j] = computed + activation_unit() * (std::abs(values[j]) + computed);
          limits[half + j] = computed + activation_unit() * (std::abs(values[half + j]) + computed);
        }
      }
    }
    EXPECT_TRUE(AllNear(NormRope(x, row_stride, heads, table), expected, bound));
  }
};

// Far positions are where an angle in float goes wrong: at one million it would be off by 0.03.
TEST_P(RopeTest, TableHoldsRoundedCosinesAtFarPositions) {
  const std::vector<int32_t> positions = {0, 1, 63, 4096, 131071, 1000003};
  for (const int head_dim : {16, 64, 128, 256}) {
    const Table table = MakeTable(positions, head_dim, 10000.0);
    const int half = head_dim / 2;
    for (size_t i = 0; i < positions.size(); ++i) {
      for (int j = 0; j < half; ++j) {
        const long double angle = positions[i] * std::pow(10000.0L, -2.0L * j / head_dim);
        EXPECT_NEAR(table.cos[i * half + j], std::cos(angle), 1.1 * kFloatUnit) << positions[i] << " " << j;
        EXPECT_NEAR(table.sin[i * half + j], std::sin(angle), 1.1 * kFloatUnit) << positions[i] << " " << j;
      }
    }
  }
}

// Between the heads and the end of a row lie columns that belong to somebody else: values, or a gap.
TEST_P(RopeTest, NormsAndRotatesInPlace) {
  for (const int head_dim : {2, 6, 16, 32, 64, 96, 128, 256}) {
    for (const int gap : {5, 8}) {
      SCOPED_TRACE(testing::Message() << head_dim << ", gap " << gap);
      Random random(head_dim);
      const Table table = MakeTable({5, 0, 77, 9000}, head_dim, 500000.0);
      const std::vector<float> q_weight = random.Normals(head_dim), k_weight = random.Normals(head_dim);
      for (const Heads& heads : {Heads{3, 0, head_dim, q_weight, {}}, Heads{0, 2, head_dim, {}, k_weight},
                                 Heads{5, 1, head_dim, q_weight, k_weight}, Heads{2, 2, head_dim, {}, {}}}) {
        const int64_t row_stride = (heads.q_heads + heads.k_heads) * head_dim + gap;
        ExpectReference(random.Normals(4 * row_stride), row_stride, heads, table);
      }
    }
  }
}

// As many rows as a chunk of a prompt has: devices divide those in another way.
TEST_P(RopeTest, ManyRows) {
  constexpr int kRows = 700, kHeadDim = 128;
  Random random(4);
  std::vector<int32_t> positions(kRows);
  for (int32_t& position : positions) position = random.Below(200000);
  const Table table = MakeTable(positions, kHeadDim, 10000.0);
  for (const auto& [q_heads, k_heads] : {std::pair(5, 1), {4, 2}}) {
    const Heads heads = {q_heads, k_heads, kHeadDim, random.Normals(kHeadDim), random.Normals(kHeadDim)};
    const int64_t row_stride = (q_heads + 2 * k_heads) * kHeadDim;
    const std::vector<float> x = random.Normals(kRows * row_stride);
    ExpectReference(x, row_stride, heads, table);

    const std::vector<float> all = NormRope(x, row_stride, heads, table);
    constexpr int kRow = 333;
    const Table row_table = MakeTable({positions[kRow]}, kHeadDim, 10000.0);
    const std::vector<float> row(x.begin() + kRow * row_stride, x.begin() + (kRow + 1) * row_stride);
    const std::vector<float> expected(all.begin() + kRow * row_stride, all.begin() + (kRow + 1) * row_stride);
    EXPECT_TRUE(SameBits(NormRope(row, row_stride, heads, row_table), expected));
  }
}

TEST_P(RopeTest, NullWeightMeansNoNorm) {
  const Table table = {{0.0f, 0.0f}, {1.0f, 1.0f}};  // a quarter turn
  EXPECT_EQ(NormRope({1, 2, 3, 4}, 4, {1, 0, 4, {}, {}}, table), (std::vector<float>{-3, -4, 1, 2}));
}

TEST_P(RopeTest, NullTableMeansNoRotation) {
  const double scale = 1.0 / std::sqrt(9.0 + kEps);
  const double bound = 8 * kFloatUnit + 6.0 * scale * activation_unit();
  const std::vector<float> out = NormRope({3, -3, 3, 3}, 4, {1, 0, 4, {1, 1, 2, 1}, {}}, {});
  EXPECT_TRUE(AllNear(out, {3 * scale, -3 * scale, 6 * scale, 3 * scale}, bound));
  for (const int head_dim : {64, 128}) {
    const std::vector<float> x(head_dim, 3.0f), weight(head_dim, 2.0f);
    const std::vector<double> expected(head_dim, 6 * scale);
    EXPECT_TRUE(AllNear(NormRope(x, head_dim, {0, 1, head_dim, {}, weight}, {}), expected,
                        (head_dim + 8) * kFloatUnit + bound));
  }
}

TEST_P(RopeTest, ThreadsChangeNothing) {
  Random random(9);
  constexpr int kRows = 61, kHeadDim = 64;
  const Heads heads = {6, 2, kHeadDim, random.Normals(kHeadDim), random.Normals(kHeadDim)};
  std::vector<int32_t> positions(kRows);
  for (int32_t& position : positions) position = random.Below(200000);
  const std::vector<float> x = random.Normals(kRows * 8 * kHeadDim);
  const Table alone = MakeTable(positions, kHeadDim, 10000.0, 1);
  const std::vector<float> out = NormRope(x, 8 * kHeadDim, heads, alone, 1);
  for (int num_threads : {2, 3}) {
    const Table table = MakeTable(positions, kHeadDim, 10000.0, num_threads);
    EXPECT_TRUE(SameBits(table.cos, alone.cos));
    EXPECT_TRUE(SameBits(table.sin, alone.sin));
    EXPECT_TRUE(SameBits(NormRope(x, 8 * kHeadDim, heads, table, num_threads), out));
  }
}

YOIO_TEST_ON_BACKENDS(RopeTest);

}  // namespace
}  // namespace yoio::test
