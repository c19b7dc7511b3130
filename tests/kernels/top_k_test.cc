#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>

#include "tests/support/backend_test.h"
#include "tests/support/compare.h"
#include "tests/support/random.h"

namespace yoio::test {
namespace {

using kernels::kBlockTokens;
using kernels::PagedRow;

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// The rule, by sorting: higher scores first, NaN last, lower positions first among equals.
std::vector<int32_t> Reference(const std::vector<float>& scores, int top_k) {
  std::vector<int32_t> order(scores.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
    if (std::isnan(scores[a]) || std::isnan(scores[b])) return !std::isnan(scores[a]);
    return scores[a] > scores[b];
  });
  order.resize(std::min<size_t>(order.size(), top_k));
  std::sort(order.begin(), order.end());
  return order;
}

class TopKTest : public BackendTest {
 protected:
  // Selects from rows of different lengths, checks that nothing is written past the count of a row, and that
  // slots say where the positions lie.
  std::vector<std::vector<int32_t>> Select(const std::vector<std::vector<float>>& rows, int top_k,
                                           int num_threads, size_t min_stride = 0) {
    constexpr int kSequences = 3;
    size_t stride = min_stride;
    for (const std::vector<float>& row : rows) stride = std::max(stride, row.size());
    const int max_blocks = static_cast<int>(stride) / kBlockTokens + 1;
    const std::vector<int32_t> tables = Random(stride).Permutation(kSequences * max_blocks);
    // Behind a row lie scores of an earlier step, higher than any real one.
    std::vector<float> scores(rows.size() * stride, kInf);
    std::vector<PagedRow> paged;
    for (size_t i = 0; i < rows.size(); ++i) {
      std::copy(rows[i].begin(), rows[i].end(), scores.begin() + i * stride);
      const bool padding = rows[i].empty();
      paged.push_back(
          {padding ? -1 : static_cast<int32_t>(i + 1) % kSequences, static_cast<int32_t>(rows[i].size())});
    }
    const DeviceArray<float> device_scores = Upload(scores);
    const DeviceArray<int32_t> device_tables = Upload(tables);
    const DeviceArray<PagedRow> device_rows = Upload(paged);
    const DeviceArray<int32_t> positions = Poisoned<int32_t>(rows.size() * top_k);
    const DeviceArray<int32_t> slots = Poisoned<int32_t>(rows.size() * top_k);
    const DeviceArray<int32_t> count = Poisoned<int32_t>(rows.size());
    backend().TopK({.scores = device_scores.data(),
                    .score_stride = static_cast<int64_t>(stride),
                    .block_tables = device_tables.data(),
                    .max_blocks = max_blocks,
                    .rows = device_rows.data(),
                    .num_rows = static_cast<int>(rows.size()),
                    .top_k = top_k,
                    .positions = positions.data(),
                    .slots = slots.data(),
                    .count = count.data()},
                   stream(num_threads));
    const std::vector<int32_t> all = positions.Read();
    const std::vector<int32_t> all_slots = slots.Read();
    const std::vector<int32_t> counts = count.Read();
    std::vector<std::vector<int32_t>> selected;
    for (size_t i = 0; i < rows.size(); ++i) {
      if (counts[i] < 0 || counts[i] > top_k) {
        ADD_FAILURE() << "row " << i << " counts " << counts[i];
        selected.emplace_back();
        continue;
      }
      const auto begin = all.begin() + i * top_k;
      selected.emplace_back(begin, begin + counts[i]);
      std::vector<int32_t> expected_slots(top_k, PoisonValue<int32_t>());
      for (int j = 0; j < counts[i]; ++j) {
        if (begin[j] < 0 || begin[j] >= paged[i].length) continue;
        const int32_t block = tables[paged[i].slot * max_blocks + begin[j] / kBlockTokens];
        expected_slots[j] = block * kBlockTokens + begin[j] % kBlockTokens;
      }
      const auto slots_begin = all_slots.begin() + i * top_k;
      EXPECT_TRUE(SameBits(std::vector<int32_t>(slots_begin, slots_begin + top_k), expected_slots))
          << "row " << i;
      EXPECT_TRUE(std::all_of(begin + counts[i], begin + top_k, IsPoison<int32_t>)) << "row " << i;
    }
    return selected;
  }

  // One row, alone: on one, two and three threads; on a device, which has no threads to vary, once.
  void ExpectExact(const std::vector<float>& scores, int top_k) {
    const std::vector<int32_t> expected = Reference(scores, top_k);
    for (int num_threads = 1; num_threads <= (on_cuda() ? 1 : 3); ++num_threads) {
      EXPECT_TRUE(SameBits(Select({scores}, top_k, num_threads)[0], expected))
          << scores.size() << " scores, k " << top_k << ", " << num_threads << " threads";
    }
  }
};

// Lengths around vectors, around k, and long enough for several threads to share a row.
constexpr int kLengths[] = {1, 2, 15, 16, 17, 100, 2047, 2048, 2049, 4096, 16384, 16385, 40001};

TEST_P(TopKTest, RandomScores) {
  for (int length : kLengths) {
    const std::vector<float> scores = Random(length).Normals(length, 3.0f);
    for (int top_k : {1, 7, 64, 2048}) ExpectExact(scores, top_k);
  }
}

TEST_P(TopKTest, CountsNeedNotBeWritten) {
  const DeviceArray<float> scores = Upload(std::vector<float>{1, 3, 2, 5, 4});
  const DeviceArray<int32_t> table = Upload(std::vector<int32_t>{7});
  const DeviceArray<PagedRow> rows = Upload(std::vector<PagedRow>{{0, 5}});
  const DeviceArray<int32_t> positions = Poisoned<int32_t>(2), slots = Poisoned<int32_t>(2);
  backend().TopK({.scores = scores.data(),
                  .score_stride = 5,
                  .block_tables = table.data(),
                  .max_blocks = 1,
                  .rows = rows.data(),
                  .num_rows = 1,
                  .top_k = 2,
                  .positions = positions.data(),
                  .slots = slots.data(),
                  .count = nullptr},
                 stream());
  EXPECT_EQ(positions.Read(), (std::vector<int32_t>{3, 4}));
  EXPECT_EQ(slots.Read(), (std::vector<int32_t>{7 * kBlockTokens + 3, 7 * kBlockTokens + 4}));
}

TEST_P(TopKTest, TiesGoToTheLowestPositions) {
  for (int length : kLengths) {
    for (float value : {0.0f, -0.0f, 1.5f, -2.5f, kInf, -kInf, kNan}) {
      ExpectExact(std::vector<float>(length, value), 64);
    }
  }
}

TEST_P(TopKTest, NegativeZeroEqualsZero) {
  Random random(1);
  for (int length : kLengths) {
    std::vector<float> scores(length);
    for (float& score : scores) score = random.Below(2) == 0 ? 0.0f : -0.0f;
    ExpectExact(scores, 100);
    scores[length / 2] = -1.0f;
    scores[length / 3] = 1.0f;
    ExpectExact(scores, 100);
  }
}

// As many distinct winners as there are places, less one; the last place goes to the first of the ties.
TEST_P(TopKTest, OnePlaceLeftForTheTies) {
  for (int length : {300, 5000, 40001}) {
    const int top_k = length / 4;
    Random random(length);
    std::vector<float> scores(length, 0.25f);
    const std::vector<int32_t> places = random.Permutation(length);
    for (int i = 0; i < top_k - 1; ++i) scores[places[i]] = 1.0f + i;
    ExpectExact(scores, top_k);
  }
}

// Whatever part of a row is looked at first, the rest may be different: high scores at regular distances, or
// in one stretch of the text.
TEST_P(TopKTest, PeriodsAndClusters) {
  for (int length : {20000, 40001}) {
    Random random(length);
    for (int period : {17, 19, 21, 37, 39, 41, 64}) {
      std::vector<float> scores = random.Normals(length);
      for (int i = 0; i < length; i += period) scores[i] += 1000.0f;
      ExpectExact(scores, 2048);
    }
    std::vector<float> scores = random.Normals(length);
    for (int i = length - 500; i < length; ++i) scores[i] += 10.0f;
    ExpectExact(scores, 400);
    ExpectExact(scores, 600);
  }
}

// A ReLU indexer gives thousands of exact zeros, and a low-contrast row puts all scores into one histogram
// bin.
TEST_P(TopKTest, ManyZerosAndOneBin) {
  for (int length : {5000, 40001}) {
    Random random(length);
    std::vector<float> sparse(length), narrow(length), neighbours(length), coarse(length);
    for (int i = 0; i < length; ++i) {
      sparse[i] = std::max(0.0f, random.Normal() - 2.0f);
      narrow[i] = 1.0f + 1e-4f * static_cast<float>(random.Uniform());
      const uint32_t bits = 0xc0123400u + random.Below(600);  // differs in the last digit only
      std::memcpy(&neighbours[i], &bits, sizeof(bits));
      coarse[i] = static_cast<float>(random.Below(5) - 2);
    }
    for (int top_k : {1, 1000, 2048, length - 1}) {
      ExpectExact(sparse, top_k);
      ExpectExact(narrow, top_k);
      ExpectExact(neighbours, top_k);
      ExpectExact(coarse, top_k);
    }
  }
}

TEST_P(TopKTest, OrdersEveryKindOfNumber) {
  const float denormal = std::numeric_limits<float>::denorm_min();
  const std::vector<float> kinds = {kNan,  -kNan, -kInf,    -3e38f, -1.0f, -1e-38f, -denormal,
                                    -0.0f, 0.0f,  denormal, 1e-38f, 1.0f,  3e38f,   kInf};
  for (int length : {14, 333, 20000}) {
    Random random(length);
    std::vector<float> scores(length);
    for (float& score : scores) score = kinds[random.Below(static_cast<int>(kinds.size()))];
    for (int top_k = 1; top_k < length; top_k = top_k * 2 + 1) ExpectExact(scores, top_k);
  }
}

// More NaN than losers: some of them win, the first ones.
TEST_P(TopKTest, NanWinsOnlyWhenNothingElseIsLeft) {
  for (int length : {100, 20000}) {
    std::vector<float> scores(length, kNan);
    for (int i = 0; i < 40; ++i) scores[(i * 37) % length] = i % 3 == 0 ? -kInf : static_cast<float>(i);
    ExpectExact(scores, 50);
  }
}

// A threshold in the first, the middle or the last bits of a number: scores that differ in one stretch of
// bits only.
TEST_P(TopKTest, ScoresThatDifferInFewBits) {
  constexpr int kLength = 20000;
  for (int shift : {0, 5, 10, 15, 20}) {
    for (uint32_t base : {0x00000000u, 0x3f800000u, 0xbf800000u, 0xff000000u}) {
      Random random(shift + 1);
      std::vector<float> scores(kLength);
      for (float& score : scores) {
        const uint32_t bits = base ^ (static_cast<uint32_t>(random.Below(8)) << shift);
        std::memcpy(&score, &bits, sizeof(bits));
      }
      for (int top_k : {1, 2048, 10000, kLength - 1}) ExpectExact(scores, top_k);
    }
  }
}

// More winners than any block of a device keeps apart, up to all of them.
TEST_P(TopKTest, LargeTopK) {
  constexpr int kLength = 70001;
  const std::vector<float> scores = Random(11).Normals(kLength);
  for (int top_k : {4096, 16384, 60000, kLength - 1, kLength, kLength + 5}) ExpectExact(scores, top_k);
}

// Rows at every offset from a vector's boundary.
TEST_P(TopKTest, AnyStride) {
  std::vector<std::vector<float>> rows;
  for (int i = 0; i < 5; ++i) rows.push_back(Random(20 + i).Normals(5000 + i));
  for (size_t stride : {5004, 5005, 5006, 5007, 6016}) {
    const std::vector<std::vector<int32_t>> selected = Select(rows, 300, 2, stride);
    for (size_t i = 0; i < rows.size(); ++i) EXPECT_TRUE(SameBits(selected[i], Reference(rows[i], 300))) << i;
  }
}

TEST_P(TopKTest, SortedRowsOneMillionLong) {
  constexpr int kLength = 1000003;
  std::vector<float> scores(kLength);
  for (int i = 0; i < kLength; ++i) scores[i] = static_cast<float>(i);
  ExpectExact(scores, 2048);
  std::reverse(scores.begin(), scores.end());
  ExpectExact(scores, 2048);
  ExpectExact(Random(2).Normals(kLength), 2048);
  ExpectExact(std::vector<float>(kLength, 1.0f), 2048);
}

// Few rows and many, which a device may share out differently, of a million scores each.
TEST_P(TopKTest, BatchesOfLongRows) {
  constexpr int kLength = 1100000;
  std::vector<float> scores = Random(4).Normals(kLength);
  const std::vector<int32_t> random = Reference(scores, 2048);
  std::vector<float> sparse(kLength);
  for (int i = 0; i < kLength; ++i) sparse[i] = std::max(0.0f, scores[i] - 3.2f);
  const std::vector<int32_t> ties = Reference(sparse, 2048);
  for (int num_rows : {7, 18}) {
    std::vector<std::vector<float>> rows(num_rows, scores);
    rows[1] = sparse;
    rows[num_rows - 1] = sparse;
    const std::vector<std::vector<int32_t>> selected = Select(rows, 2048, 2);
    for (int i = 0; i < num_rows; ++i) {
      EXPECT_TRUE(SameBits(selected[i], i == 1 || i == num_rows - 1 ? ties : random)) << i;
    }
  }
}

TEST_P(TopKTest, RowsOfABatchAreThoseAlone) {
  for (int longest : {900, 30000}) {
    Random random(longest);
    for (int num_rows : {3, 9, 21, 50}) {
      std::vector<std::vector<float>> rows;
      for (int i = 0; i < num_rows; ++i)
        rows.push_back(random.Normals(i == 4 ? 1 : std::max(1, longest - 41 * i)));
      rows[num_rows / 2].assign(rows[num_rows / 2].size(), 0.0f);
      rows[num_rows - 1].clear();  // padding
      for (int num_threads : {1, 2, 3}) {
        const std::vector<std::vector<int32_t>> selected = Select(rows, 700, num_threads);
        for (size_t i = 0; i < rows.size(); ++i) {
          EXPECT_TRUE(SameBits(selected[i], Reference(rows[i], 700))) << i;
        }
      }
    }
  }
}

// Every number of rows that a device shares out in a way of its own, in rows so short that a race detector
// follows all of it: a threshold found in the first bits, one in the last ones, ties, a row that wins as a
// whole, a padding row.
TEST_P(TopKTest, ShortRowsInBatchesOfEverySize) {
  constexpr int kLength = 611;
  Random random(8);
  std::vector<float> neighbours(kLength);
  for (float& score : neighbours) {
    const uint32_t bits = 0x40100000u + (random.Below(4) << 18) + random.Below(200);
    std::memcpy(&score, &bits, sizeof(bits));
  }
  std::vector<float> far_apart(kLength, -2.0f);
  for (int i = 0; i < 90; ++i) far_apart[i * 5] = 1e-30f * std::exp(static_cast<float>(i));
  const std::vector<std::vector<float>> kinds = {
      random.Normals(kLength),           neighbours,         far_apart,
      std::vector<float>(kLength, 0.0f), random.Normals(70), {}};
  for (const int num_rows : {1, 8, 16, 18, 31}) {
    std::vector<std::vector<float>> rows;
    for (int i = 0; i < num_rows; ++i) rows.push_back(kinds[(i + num_rows) % kinds.size()]);
    const std::vector<std::vector<int32_t>> selected = Select(rows, 90, 2);
    for (size_t i = 0; i < rows.size(); ++i) EXPECT_TRUE(SameBits(selected[i], Reference(rows[i], 90))) << i;
  }
}

// Where a device has few blocks for each of many rows, they cannot keep all of a long one.
TEST_P(TopKTest, OneLongRowAmongManyShort) {
  std::vector<std::vector<float>> rows(31, {0.5f, 1.5f, 1.0f});
  rows[12] = Random(12).Normals(200003);
  const std::vector<std::vector<int32_t>> selected = Select(rows, 300, 2);
  for (size_t i = 0; i < rows.size(); ++i) EXPECT_TRUE(SameBits(selected[i], Reference(rows[i], 300))) << i;
}

YOIO_TEST_ON_BACKENDS(TopKTest);

}  // namespace
}  // namespace yoio::test
