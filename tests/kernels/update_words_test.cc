#include "tests/support/backend_test.h"
#include "tests/support/compare.h"
#include "tests/support/random.h"

namespace yoio::test {
namespace {

using kernels::WordUpdate;

class UpdateWordsTest : public BackendTest {
 protected:
  std::vector<int32_t> Update(const std::vector<int32_t>& words, const std::vector<WordUpdate>& updates) {
    const DeviceArray<int32_t> device_words = Upload(words);
    const DeviceArray<WordUpdate> device_updates = Upload(updates);
    backend().UpdateWords({.updates = device_updates.data(),
                           .num_updates = static_cast<int>(updates.size()),
                           .words = device_words.data()},
                          stream());
    return device_words.Read();
  }
};

TEST_P(UpdateWordsTest, WritesTheNamedPlacesAndNoOther) {
  EXPECT_EQ(Update({1, 2, 3, 4}, {{2, -7}, {0, 9}}), (std::vector<int32_t>{9, 2, -7, 4}));
}

TEST_P(UpdateWordsTest, NoUpdatesWriteNothing) {
  EXPECT_EQ(Update({1, 2}, {}), (std::vector<int32_t>{1, 2}));
}

TEST_P(UpdateWordsTest, ManyAtOnce) {
  constexpr int kWords = 3000, kUpdates = 1234;
  Random random(1);
  std::vector<int32_t> words(kWords);
  for (int32_t& word : words) word = static_cast<int32_t>(random.Bits());
  const std::vector<int32_t> places = random.Permutation(kWords);
  std::vector<int32_t> expected = words;
  std::vector<WordUpdate> updates;
  for (int i = 0; i < kUpdates; ++i) {
    updates.push_back({places[i], static_cast<int32_t>(random.Bits())});
    expected[places[i]] = updates.back().word;
  }
  EXPECT_TRUE(SameBits(Update(words, updates), expected));
}

YOIO_TEST_ON_BACKENDS(UpdateWordsTest);

}  // namespace
}  // namespace yoio::test
