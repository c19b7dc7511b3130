#include "tests/support/backend_test.h"
#include "tests/support/compare.h"
#include "tests/support/random.h"

namespace yoio::test {
namespace {

using kernels::BFloat16;
using kernels::DType;
using kernels::Matrix;

class EmbedTest : public BackendTest {
 protected:
  // Embeds `ids` with a shard of rows vocab_begin .. of the table, on `num_threads` threads. No `previous` is
  // a null pointer.
  std::vector<float> Embed(const std::vector<int32_t>& ids, Matrix table, int32_t vocab_begin,
                           int num_threads = 2, const std::vector<int32_t>& previous = {}) {
    const DeviceArray<int32_t> device_ids = Upload(ids), device_previous = Upload(previous);
    const ActivationArray out = PoisonedActivations(ids.size() * table.cols);
    backend().Embed({.ids = device_ids.data(),
                     .previous = previous.empty() ? nullptr : device_previous.data(),
                     .table = table,
                     .vocab_begin = vocab_begin,
                     .num_tokens = static_cast<int>(ids.size()),
                     .out = out.data()},
                    stream(num_threads));
    return out.Read();
  }
};

TEST_P(EmbedTest, CopiesFloatRowsAsActivations) {
  const std::vector<float> table = Random(1).Normals(5 * 7);
  const std::vector<float> rounded = Activations(table).values();
  const DeviceArray<float> device_table = Upload(table);
  const std::vector<float> out =
      Embed({4, 0, 4}, {.data = device_table.data(), .dtype = DType::kF32, .rows = 5, .cols = 7}, 0);
  for (int j = 0; j < 7; ++j) {
    EXPECT_EQ(out[j], rounded[4 * 7 + j]);
    EXPECT_EQ(out[7 + j], rounded[j]);
    EXPECT_EQ(out[14 + j], rounded[4 * 7 + j]);
  }
}

TEST_P(EmbedTest, KeepsBFloat16Exactly) {
  Random random(2);
  for (const int hidden : {7, 40, 64, 320, 2560, 4096}) {
    SCOPED_TRACE(hidden);
    std::vector<BFloat16> table(6 * hidden);
    for (BFloat16& value : table) value = kernels::ToBFloat16(random.Normal());
    const DeviceArray<BFloat16> device_table = Upload(table);
    const std::vector<float> out =
        Embed({5, 2}, {.data = device_table.data(), .dtype = DType::kBF16, .rows = 6, .cols = hidden}, 0);
    for (int j = 0; j < hidden; ++j) {
      EXPECT_EQ(out[j], kernels::ToFloat(table[5 * hidden + j]));
      EXPECT_EQ(out[hidden + j], kernels::ToFloat(table[2 * hidden + j]));
    }
  }
}

// Whoever drew it: an id that the host does not know yet is named by the place it was drawn to.
TEST_P(EmbedTest, NegativeIdsStandForPreviousOnes) {
  const std::vector<float> table = Random(4).Normals(9 * 16);
  const DeviceArray<float> device_table = Upload(table);
  const Matrix matrix = {.data = device_table.data(), .dtype = DType::kF32, .rows = 9, .cols = 16};
  const std::vector<int32_t> previous = {7, 3, 8};
  EXPECT_TRUE(
      SameBits(Embed({-1, 2, -3, -2, -1}, matrix, 0, 2, previous), Embed({7, 2, 8, 3, 7}, matrix, 0)));
  // The previous id may belong to another shard as well.
  EXPECT_TRUE(
      SameBits(Embed({-1, 2, -3, -2, -1}, matrix, 5, 2, previous), Embed({7, 2, 8, 3, 7}, matrix, 5)));
}

// The sum over ranks is the whole embedding only if each id is found on one rank and zero on all others.
TEST_P(EmbedTest, IdsOfOtherShardsGiveZeros) {
  const std::vector<float> table(4 * 3, 1.0f);
  const DeviceArray<float> device_table = Upload(table);
  const std::vector<float> out = Embed(
      {9, 10, 13, 14, 0}, {.data = device_table.data(), .dtype = DType::kF32, .rows = 4, .cols = 3}, 10);
  EXPECT_EQ(out, (std::vector<float>{0, 0, 0, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0}));
}

TEST_P(EmbedTest, ThreadsChangeNothing) {
  Random random(3);
  const std::vector<float> table = random.Normals(100 * 512);
  const DeviceArray<float> device_table = Upload(table);
  const Matrix matrix = {.data = device_table.data(), .dtype = DType::kF32, .rows = 100, .cols = 512};
  std::vector<int32_t> ids(131);
  for (int32_t& id : ids) id = random.Below(100);
  const std::vector<float> alone = Embed(ids, matrix, 0, 1);
  EXPECT_TRUE(SameBits(Embed(ids, matrix, 0, 2), alone));
  EXPECT_TRUE(SameBits(Embed(ids, matrix, 0, 3), alone));
}

YOIO_TEST_ON_BACKENDS(EmbedTest);

}  // namespace
}  // namespace yoio::test
