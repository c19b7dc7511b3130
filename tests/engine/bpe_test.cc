#include "engine/tokenizer/bpe.h"

#include <map>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/random.h"

namespace yoio {
namespace {

using ::testing::ElementsAre;

// The definition, as slowly as it reads: merge the pair of lowest rank, the leftmost of equals, until none is
// left.
class SlowEncoder {
 public:
  void AddMerge(int32_t left, int32_t right, int32_t merged) {
    merges_.emplace(std::pair(left, right), std::pair(static_cast<int>(merges_.size()), merged));
  }

  std::vector<int32_t> Encode(const std::string& word) const {
    std::vector<int32_t> symbols;
    for (const char byte : word) symbols.push_back(static_cast<uint8_t>(byte));
    while (true) {
      std::pair<int, int32_t> best = {INT_MAX, 0};
      size_t where = 0;
      for (size_t i = 0; i + 1 < symbols.size(); ++i) {
        const auto merge = merges_.find({symbols[i], symbols[i + 1]});
        if (merge == merges_.end() || merge->second.first >= best.first) continue;
        best = merge->second;
        where = i;
      }
      if (best.first == INT_MAX) return symbols;
      symbols[where] = best.second;
      symbols.erase(symbols.begin() + where + 1);
    }
  }

 private:
  std::map<std::pair<int32_t, int32_t>, std::pair<int, int32_t>> merges_;
};

BytePairEncoder ByteEncoder() {
  std::array<int32_t, 256> byte_ids;
  for (int i = 0; i < 256; ++i) byte_ids[i] = i;
  return BytePairEncoder(byte_ids);
}

std::vector<int32_t> Encode(const BytePairEncoder& encoder, const std::string& word) {
  BytePairEncoder::Scratch scratch;
  std::vector<int32_t> ids;
  encoder.Encode(word, scratch, ids);
  return ids;
}

TEST(BytePairEncoderTest, LowerRanksGoFirstAndEqualOnesFromTheLeft) {
  BytePairEncoder encoder = ByteEncoder();
  EXPECT_TRUE(encoder.AddMerge('b', 'c', 256));
  EXPECT_TRUE(encoder.AddMerge('a', 'b', 257));
  EXPECT_TRUE(encoder.AddMerge('a', 'a', 258));
  EXPECT_FALSE(encoder.AddMerge('a', 'b', 259));
  EXPECT_THAT(Encode(encoder, "abc"), ElementsAre('a', 256));
  EXPECT_THAT(Encode(encoder, "abd"), ElementsAre(257, 'd'));
  EXPECT_THAT(Encode(encoder, "aaa"), ElementsAre(258, 'a'));
  EXPECT_THAT(Encode(encoder, "x"), ElementsAre('x'));
  EXPECT_THAT(Encode(encoder, ""), ElementsAre());
}

TEST(BytePairEncoderTest, AWholeWordWinsOverMerges) {
  BytePairEncoder encoder = ByteEncoder();
  encoder.AddMerge('a', 'b', 256);
  encoder.AddWholeWord("abc", 300);
  EXPECT_THAT(Encode(encoder, "abc"), ElementsAre(300));
  EXPECT_THAT(Encode(encoder, "abcd"), ElementsAre(256, 'c', 'd'));
}

// Merges in any order, also ones that no training would produce: a merge may outrank those that it is made
// of.
TEST(BytePairEncoderTest, RandomMergesAreTheDefinition) {
  test::Random random(41);
  for (int round = 0; round < 60; ++round) {
    BytePairEncoder encoder = ByteEncoder();
    SlowEncoder slow;
    const int letters = 2 + random.Below(4);
    const int merges = 1 + random.Below(40);
    std::vector<std::pair<int32_t, int32_t>> pairs;
    for (int i = 0; i < merges; ++i) {
      const auto part = [&] {
        const int choice = random.Below(letters + i);
        return choice < letters ? 'a' + choice : 256 + choice - letters;
      };
      const int32_t left = part();
      pairs.emplace_back(left, part());
    }
    for (const int32_t i : random.Permutation(merges)) {
      if (encoder.AddMerge(pairs[i].first, pairs[i].second, 256 + i)) {
        slow.AddMerge(pairs[i].first, pairs[i].second, 256 + i);
      }
    }
    for (const int length : {2, 7, 31, 32, 33, 34, 64, 300}) {
      std::string word;
      for (int i = 0; i < length; ++i) word.push_back(static_cast<char>('a' + random.Below(letters)));
      EXPECT_EQ(Encode(encoder, word), slow.Encode(word)) << word;
    }
  }
}

}  // namespace
}  // namespace yoio
