#include "tests/support/backend_test.h"
#include "tests/support/compare.h"
#include "tests/support/random.h"

namespace yoio::test {
namespace {

class CacheWriteTest : public BackendTest {};

// K and V come side by side from one product, so rows are longer than their heads.
TEST_P(CacheWriteTest, WritesKeysAndValuesOfEveryHeadToTheirSlots) {
  constexpr int kRows = 5, kHeads = 3, kDim = 16, kSlots = 9;
  constexpr int64_t kStride = 2 * kHeads * kDim;
  const std::vector<int32_t> slots = {7, -1, 0, 3, -1};
  const std::vector<float> rows = Random(1).Normals(kRows * kStride);
  for (int num_threads : {1, 2, 3}) {
    const DeviceArray<float> device_rows = Upload(rows);
    const DeviceArray<int32_t> device_slots = Upload(slots);
    const DeviceArray<float> cache = Poisoned<float>(kSlots * kHeads * 2 * kDim);
    backend().WriteKv({.k = device_rows.data(),
                       .v = device_rows.data() + kHeads * kDim,
                       .row_stride = kStride,
                       .slots = device_slots.data(),
                       .num_rows = kRows,
                       .kv_heads = kHeads,
                       .head_dim = kDim,
                       .cache = cache.data()},
                      stream(num_threads));
    std::vector<float> expected(cache.size(), PoisonValue<float>());
    for (int i = 0; i < kRows; ++i) {
      if (slots[i] < 0) continue;
      for (int head = 0; head < kHeads; ++head) {
        for (int j = 0; j < kDim; ++j) {
          float* out = expected.data() + ((slots[i] * kHeads + head) * 2) * kDim + j;
          out[0] = rows[i * kStride + head * kDim + j];
          out[kDim] = rows[i * kStride + (kHeads + head) * kDim + j];
        }
      }
    }
    EXPECT_TRUE(SameBits(cache.Read(), expected));
  }
}

TEST_P(CacheWriteTest, WritesIndexKeysToTheirSlots) {
  constexpr int kRows = 300, kDim = 64, kSlots = 320;  // enough rows for several threads
  Random random(2);
  const std::vector<float> keys = random.Normals(kRows * kDim);
  std::vector<int32_t> slots = random.Permutation(kSlots);
  slots.resize(kRows);
  slots[17] = slots[200] = -1;
  for (int num_threads : {1, 2, 3}) {
    const DeviceArray<float> device_keys = Upload(keys);
    const DeviceArray<int32_t> device_slots = Upload(slots);
    const DeviceArray<float> cache = Poisoned<float>(kSlots * kDim);
    backend().WriteIndexKeys({.keys = device_keys.data(),
                              .slots = device_slots.data(),
                              .num_rows = kRows,
                              .dim = kDim,
                              .cache = cache.data()},
                             stream(num_threads));
    std::vector<float> expected(cache.size(), PoisonValue<float>());
    for (int i = 0; i < kRows; ++i) {
      if (slots[i] < 0) continue;
      std::copy_n(keys.begin() + i * kDim, kDim, expected.begin() + slots[i] * kDim);
    }
    EXPECT_TRUE(SameBits(cache.Read(), expected));
  }
}

TEST_P(CacheWriteTest, CopiesWholeBlocks) {
  constexpr int kBlocks = 6, kWords = 9000;
  Random random(3);
  std::vector<int32_t> words(kBlocks * kWords);
  for (int32_t& word : words) word = static_cast<int32_t>(random.Bits());
  const DeviceArray<int32_t> cache = Upload(words);
  const DeviceArray<int32_t> pairs = Upload(std::vector<int32_t>{4, 0, 4, 2, 1, 5});
  backend().CopyBlocks(
      {.cache = cache.data(), .block_bytes = kWords * sizeof(int32_t), .pairs = pairs.data(), .num_pairs = 3},
      stream());
  std::vector<int32_t> expected(words);
  std::copy_n(words.begin() + 4 * kWords, kWords, expected.begin());
  std::copy_n(words.begin() + 4 * kWords, kWords, expected.begin() + 2 * kWords);
  std::copy_n(words.begin() + 1 * kWords, kWords, expected.begin() + 5 * kWords);
  EXPECT_TRUE(SameBits(cache.Read(), expected));
}

YOIO_TEST_ON_BACKENDS(CacheWriteTest);

}  // namespace
}  // namespace yoio::test
