#include <vector>

#include "tests/support/backend_test.h"
#include "tests/support/compare.h"
#include "tests/support/random.h"

namespace yoio::test {
namespace {

class JoinPartsTest : public BackendTest {};

TEST_P(JoinPartsTest, ByHand) {
  const DeviceArray<float> parts = Upload<float>({0, 1, 10, 11, 2, 3, 12, 13, 4, -1, 14, -1});
  const DeviceArray<int32_t> rows = Upload<int32_t>({2, 0});
  const DeviceArray<float> out = Poisoned<float>(15);
  backend().JoinParts({.parts = parts.data(),
                       .num_parts = 3,
                       .part_width = 2,
                       .rows = rows.data(),
                       .num_rows = 2,
                       .width = 5,
                       .out = out.data()},
                      stream());
  const float none = PoisonValue<float>();
  EXPECT_TRUE(SameBits(out.Read(), {10, 11, 12, 13, 14, none, none, none, none, none, 0, 1, 2, 3, 4}));
}

// Rows of widths that vectors divide and others, a last part cut off or empty, on any number of threads.
TEST_P(JoinPartsTest, AnyWidths) {
  constexpr int kRows = 9, kOutRows = 12;
  for (const int num_parts : {1, 2, 3, 8}) {
    for (const int part_width : {1, 7, 8, 1000, 4000}) {
      for (const int missing : {0, 4, part_width / 2, part_width}) {
        const int width = num_parts * part_width - missing;
        if (width <= 0) continue;
        Random random(width);
        const std::vector<float> parts = random.Normals(num_parts * kRows * part_width);
        std::vector<int32_t> rows = random.Permutation(kOutRows);
        rows.resize(kRows);
        std::vector<float> expected(kOutRows * width, PoisonValue<float>());
        for (int i = 0; i < kRows; ++i) {
          for (int column = 0; column < width; ++column) {
            const int part = column / part_width;
            expected[rows[i] * width + column] = parts[(part * kRows + i) * part_width + column % part_width];
          }
        }
        const DeviceArray<float> device_parts = Upload(parts);
        const DeviceArray<int32_t> device_rows = Upload(rows);
        for (const int num_threads : {1, 2, 3}) {
          const DeviceArray<float> out = Poisoned<float>(kOutRows * width);
          backend().JoinParts({.parts = device_parts.data(),
                               .num_parts = num_parts,
                               .part_width = part_width,
                               .rows = device_rows.data(),
                               .num_rows = kRows,
                               .width = width,
                               .out = out.data()},
                              stream(num_threads));
          EXPECT_TRUE(SameBits(out.Read(), expected)) << num_parts << " parts of " << part_width;
        }
      }
    }
  }
}

YOIO_TEST_ON_BACKENDS(JoinPartsTest);

}  // namespace
}  // namespace yoio::test
