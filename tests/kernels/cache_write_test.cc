#include "tests/support/backend_test.h"
#include "tests/support/compare.h"
#include "tests/support/random.h"

namespace yoio::test {
namespace {

class CacheWriteTest : public BackendTest {};

// K and V come side by side from one product, so rows are longer than their heads.
TEST_P(CacheWriteTest, WritesKeysAndValuesOfEveryHeadToTheirSlots) {
  constexpr int kRows = 5, kHeads = 3, kSlots = 9;
  const std::vector<int32_t> slots = {7, -1, 0, 3, -1};
  for (const int dim : {6, 16, 64, 128}) {
    const int64_t stride = 2 * kHeads * dim;
    const ActivationArray rows = Activations(Random(1).Normals(kRows * stride));
    std::vector<float> expected(kSlots * kHeads * 2 * dim, PoisonValue<float>());
    for (int i = 0; i < kRows; ++i) {
      if (slots[i] < 0) continue;
      for (int head = 0; head < kHeads; ++head) {
        for (int j = 0; j < dim; ++j) {
          float* out = expected.data() + ((slots[i] * kHeads + head) * 2) * dim + j;
          out[0] = rows.values()[i * stride + head * dim + j];
          out[dim] = rows.values()[i * stride + (kHeads + head) * dim + j];
        }
      }
    }
    for (int num_threads : {1, 2, 3}) {
      const DeviceArray<int32_t> device_slots = Upload(slots);
      const ActivationArray cache = PoisonedActivations(expected.size());
      backend().WriteKv({.k = rows.data(),
                         .v = rows.at(kHeads * dim),
                         .row_stride = stride,
                         .slots = device_slots.data(),
                         .num_rows = kRows,
                         .kv_heads = kHeads,
                         .head_dim = dim,
                         .cache = cache.data()},
                        stream(num_threads));
      EXPECT_TRUE(SameBits(cache.Read(), expected)) << dim;
    }
  }
}

TEST_P(CacheWriteTest, WritesIndexKeysToTheirSlots) {
  constexpr int kRows = 300, kSlots = 320;  // enough rows for several threads
  Random random(2);
  std::vector<int32_t> slots = random.Permutation(kSlots);
  slots.resize(kRows);
  slots[17] = slots[200] = -1;
  for (const int dim : {7, 16, 64, 128}) {
    const ActivationArray keys = Activations(random.Normals(kRows * dim));
    std::vector<float> expected(kSlots * dim, PoisonValue<float>());
    for (int i = 0; i < kRows; ++i) {
      if (slots[i] < 0) continue;
      std::copy_n(keys.values().begin() + i * dim, dim, expected.begin() + slots[i] * dim);
    }
    for (int num_threads : {1, 2, 3}) {
      const DeviceArray<int32_t> device_slots = Upload(slots);
      const ActivationArray cache = PoisonedActivations(expected.size());
      backend().WriteIndexKeys({.keys = keys.data(),
                                .slots = device_slots.data(),
                                .num_rows = kRows,
                                .dim = dim,
                                .cache = cache.data()},
                               stream(num_threads));
      EXPECT_TRUE(SameBits(cache.Read(), expected)) << dim;
    }
  }
}

TEST_P(CacheWriteTest, CopiesWholeBlocks) {
  constexpr int kBlocks = 6, kWords = 64 * 141;  // words of a block: 64 tokens
  Random random(3);
  std::vector<int32_t> words(kBlocks * kWords);
  for (int32_t& word : words) word = static_cast<int32_t>(random.Bits());
  const DeviceArray<int32_t> cache = Upload(words);
  const DeviceArray<int32_t> pairs = Upload(std::vector<int32_t>{4, 0, 4, 2, 1, 5});
  constexpr int64_t kBytes = kWords * sizeof(int32_t);
  backend().CopyBlocks({.from = cache.data(),
                        .from_stride = kBytes,
                        .to = cache.data(),
                        .to_stride = kBytes,
                        .block_bytes = kBytes,
                        .pairs = pairs.data(),
                        .num_pairs = 3},
                       stream());
  std::vector<int32_t> expected(words);
  std::copy_n(words.begin() + 4 * kWords, kWords, expected.begin());
  std::copy_n(words.begin() + 4 * kWords, kWords, expected.begin() + 2 * kWords);
  std::copy_n(words.begin() + 1 * kWords, kWords, expected.begin() + 5 * kWords);
  EXPECT_TRUE(SameBits(cache.Read(), expected));
}

// A place on the host has room for what other stores keep of a block: it stays as it was.
TEST_P(CacheWriteTest, CopiesBlocksToTheHostAndBack) {
  constexpr int kBlocks = 5, kPlaces = 3, kWords = 64 * 141, kPlaceWords = kWords + 64, kOffset = 32;
  constexpr int64_t kBytes = kWords * sizeof(int32_t), kPlaceBytes = kPlaceWords * sizeof(int32_t);
  Random random(4);
  std::vector<int32_t> words(kBlocks * kWords);
  for (int32_t& word : words) word = static_cast<int32_t>(random.Bits());
  const DeviceArray<int32_t> cache = Upload(words);
  const auto host = backend().AllocateHost(kPlaces * kPlaceBytes);
  ASSERT_TRUE(host.ok()) << host.status();
  std::fill_n(host->As<int32_t>(), kPlaces * kPlaceWords, 7);
  const auto copy = [&](const void* from, int64_t from_stride, void* to, int64_t to_stride,
                        const std::vector<int32_t>& pairs) {
    const DeviceArray<int32_t> device_pairs = Upload(pairs);
    backend().CopyBlocks({.from = from,
                          .from_stride = from_stride,
                          .to = to,
                          .to_stride = to_stride,
                          .block_bytes = kBytes,
                          .pairs = device_pairs.data(),
                          .num_pairs = static_cast<int>(pairs.size() / 2)},
                         stream());
    const absl::Status status = backend().Synchronize(stream());
    ASSERT_TRUE(status.ok()) << status;
  };
  copy(cache.data(), kBytes, host->As<int32_t>() + kOffset, kPlaceBytes, {4, 0, 1, 2});
  std::vector<int32_t> places(kPlaces * kPlaceWords, 7);
  std::copy_n(words.begin() + 4 * kWords, kWords, places.begin() + kOffset);
  std::copy_n(words.begin() + 1 * kWords, kWords, places.begin() + 2 * kPlaceWords + kOffset);
  EXPECT_EQ(std::vector<int32_t>(host->As<int32_t>(), host->As<int32_t>() + places.size()), places);
  EXPECT_TRUE(SameBits(cache.Read(), words));

  copy(host->As<int32_t>() + kOffset, kPlaceBytes, cache.data(), kBytes, {0, 3, 2, 0});
  std::copy_n(words.begin() + 4 * kWords, kWords, words.begin() + 3 * kWords);
  std::copy_n(words.begin() + 1 * kWords, kWords, words.begin());
  EXPECT_TRUE(SameBits(cache.Read(), words));
}

YOIO_TEST_ON_BACKENDS(CacheWriteTest);

}  // namespace
}  // namespace yoio::test
