#include "tests/support/backend_test.h"
#include "tests/support/compare.h"
#include "tests/support/random.h"

namespace yoio::test {
namespace {

class GatherRowsTest : public BackendTest {
 protected:
  std::vector<float> Gather(const std::vector<float>& source, const std::vector<int32_t>& rows, int width,
                            int num_threads) {
    const DeviceArray<float> device_source = Upload(source);
    const DeviceArray<int32_t> device_rows = Upload(rows);
    const DeviceArray<float> out = Poisoned<float>(rows.size() * width);
    backend().GatherRows({.src = device_source.data(),
                          .rows = device_rows.data(),
                          .num_rows = static_cast<int>(rows.size()),
                          .row_bytes = static_cast<int64_t>(width * sizeof(float)),
                          .out = out.data()},
                         stream(num_threads));
    return out.Read();
  }
};

TEST_P(GatherRowsTest, RepeatsAndReorders) {
  const std::vector<float> source = {0, 1, 2, 10, 11, 12, 20, 21, 22};
  EXPECT_EQ(Gather(source, {2, 0, 2}, 3, 1), (std::vector<float>{20, 21, 22, 0, 1, 2, 20, 21, 22}));
}

TEST_P(GatherRowsTest, NoRowsWriteNothing) { EXPECT_TRUE(Gather({1, 2}, {}, 2, 2).empty()); }

TEST_P(GatherRowsTest, ManyRowsOnAnyNumberOfThreads) {
  constexpr int kSourceRows = 90;
  for (const int width : {257, 258, 320, 2560}) {
    Random random(width);
    const std::vector<float> source = random.Normals(kSourceRows * width);
    std::vector<int32_t> rows(150);
    for (int32_t& row : rows) row = random.Below(kSourceRows);
    std::vector<float> expected;
    for (int32_t row : rows) {
      expected.insert(expected.end(), source.begin() + row * width, source.begin() + (row + 1) * width);
    }
    for (int num_threads : {1, 2, 3}) {
      EXPECT_TRUE(SameBits(Gather(source, rows, width, num_threads), expected)) << width;
    }
  }
}

YOIO_TEST_ON_BACKENDS(GatherRowsTest);

}  // namespace
}  // namespace yoio::test
