#include <algorithm>
#include <cmath>

#include "tests/support/backend_test.h"
#include "tests/support/compare.h"
#include "tests/support/random.h"

namespace yoio::test {
namespace {

using kernels::kBlockTokens;
using kernels::PagedRow;

// Index keys of several sequences in shuffled blocks, some of which nobody owns.
struct Cache {
  Cache(uint64_t seed, int dim, const std::vector<int>& lengths) : dim(dim) {
    int blocks = 0;
    for (int length : lengths) {
      const int needed = (length + kBlockTokens - 1) / kBlockTokens;
      max_blocks = std::max(max_blocks, needed);
      blocks += needed;
    }
    Random random(seed);
    const std::vector<int32_t> ids = random.Permutation(blocks + 3);
    keys.assign(ids.size() * kBlockTokens * dim, PoisonValue<float>());
    block_tables.assign(lengths.size() * max_blocks, PoisonValue<int32_t>());
    int next = 0;
    for (size_t slot = 0; slot < lengths.size(); ++slot) {
      for (int position = 0; position < lengths[slot]; ++position) {
        if (position % kBlockTokens == 0) Table(slot)[position / kBlockTokens] = ids[next++];
        for (int j = 0; j < dim; ++j) Key(slot, position)[j] = random.Normal();
      }
    }
  }

  int32_t* Table(int slot) { return block_tables.data() + slot * max_blocks; }
  float* Key(int slot, int position) {
    const int block = Table(slot)[position / kBlockTokens];
    return keys.data() + (int64_t{block} * kBlockTokens + position % kBlockTokens) * dim;
  }

  int dim;
  int max_blocks = 0;
  std::vector<float> keys;            // [blocks, kBlockTokens, dim]
  std::vector<int32_t> block_tables;  // [sequences, max_blocks]
};

class IndexScoresTest : public BackendTest {
 protected:
  static constexpr int kPadding = 3;  // columns behind the longest row that nobody may write

  // Rounds `cache` and `q` to what the device holds.
  std::vector<float> Run(Cache& cache, const std::vector<PagedRow>& rows, std::vector<float>& q,
                         int64_t stride, int num_threads = 2) {
    const ActivationArray device_q = Activations(q);
    const ActivationArray keys = Activations(cache.keys);
    q = device_q.values();
    cache.keys = keys.values();
    const DeviceArray<int32_t> tables = Upload(cache.block_tables);
    const DeviceArray<PagedRow> device_rows = Upload(rows);
    const DeviceArray<float> scores = Poisoned<float>(rows.size() * stride);
    backend().IndexScores({.q = device_q.data(),
                           .keys = keys.data(),
                           .block_tables = tables.data(),
                           .max_blocks = cache.max_blocks,
                           .rows = device_rows.data(),
                           .num_rows = static_cast<int>(rows.size()),
                           .dim = cache.dim,
                           .scores = scores.data(),
                           .score_stride = stride},
                          stream(num_threads));
    return scores.Read();
  }
};

// Every score within its rounding bound, and nothing written behind the length of a row.
void ExpectScores(Cache& cache, const std::vector<PagedRow>& rows, const std::vector<float>& q,
                  int64_t stride, const std::vector<float>& actual) {
  for (size_t i = 0; i < rows.size(); ++i) {
    std::vector<double> expected, bound;
    for (int position = 0; position < rows[i].length; ++position) {
      const float* key = cache.Key(rows[i].slot, position);
      double sum = 0.0, magnitude = 0.0;
      for (int j = 0; j < cache.dim; ++j) {
        const double product = double{q[i * cache.dim + j]} * key[j];
        sum += product;
        magnitude += std::abs(product);
      }
      expected.push_back(sum);
      bound.push_back(DotBound(cache.dim, magnitude));
    }
    const absl::Span<const float> row = absl::MakeConstSpan(actual).subspan(i * stride, stride);
    EXPECT_TRUE(AllNear(row.first(rows[i].length), expected, bound)) << "row " << i;
    for (int64_t j = rows[i].length; j < stride; ++j) {
      ASSERT_TRUE(IsPoison(row[j])) << "row " << i << " column " << j;
    }
  }
}

TEST_P(IndexScoresTest, MatchesTheDefinitionForEveryDimension) {
  for (int dim : {16, 20, 32, 64, 96, 128, 192, 256}) {
    SCOPED_TRACE(dim);
    Cache cache(dim, dim, {200, 1, 64, 65, 127});
    const std::vector<PagedRow> rows = {{0, 200}, {1, 1},  {2, 64}, {3, 65},
                                        {4, 127}, {0, 63}, {0, 32}, {2, 33}};
    std::vector<float> q = Random(dim + 1).Normals(rows.size() * dim);
    const int64_t stride = 200 + kPadding;
    const std::vector<float> scores = Run(cache, rows, q, stride);
    ExpectScores(cache, rows, q, stride, scores);
  }
}

// Rows long enough for every multiprocessor to have a share, beside short ones and padding, which names no
// sequence.
TEST_P(IndexScoresTest, LongAndShortRowsAndPadding) {
  for (int dim : {64, 128}) {
    SCOPED_TRACE(dim);
    Cache cache(dim + 7, dim, {40000, 70, 9001});
    const std::vector<PagedRow> rows = {{-1, 0},    {1, 70},   {0, 40000}, {-1, 0},
                                        {0, 39999}, {2, 9001}, {1, 1},     {-1, 0}};
    std::vector<float> q = Random(dim + 8).Normals(rows.size() * dim);
    const int64_t stride = 40000 + kPadding;
    const std::vector<float> scores = Run(cache, rows, q, stride);
    ExpectScores(cache, rows, q, stride, scores);
  }
}

TEST_P(IndexScoresTest, NothingButPadding) {
  Cache cache(9, 128, {64});
  std::vector<float> q = Random(10).Normals(2 * 128);
  const std::vector<float> scores = Run(cache, {{-1, 0}, {-1, 0}}, q, 64);
  EXPECT_TRUE(std::all_of(scores.begin(), scores.end(), IsPoison<float>));
}

// Scoring a prompt: many rows of one sequence, each one token longer, behind rows of another.
TEST_P(IndexScoresTest, ManyRowsOfOneSequence) {
  constexpr int kDim = 64, kRows = 70, kStart = 950;
  Cache cache(3, kDim, {kStart + kRows, 300});
  std::vector<PagedRow> rows = {{1, 300}, {1, 299}};
  for (int i = 0; i < kRows; ++i) rows.push_back({0, kStart + 1 + i});
  std::vector<float> q = Random(4).Normals(rows.size() * kDim);
  const int64_t stride = kStart + kRows + kPadding;
  const std::vector<float> scores = Run(cache, rows, q, stride);
  ExpectScores(cache, rows, q, stride, scores);
}

// Invariant I5: the bits of a score depend on its query and key alone.
TEST_P(IndexScoresTest, BitsDoNotDependOnOtherRowsNorOnThreads) {
  for (int dim : {20, 64, 128, 160}) {
    SCOPED_TRACE(dim);
    constexpr int kRows = 37, kLength = 3000;
    Cache cache(5, dim, {kLength, kLength});
    std::vector<PagedRow> rows;
    for (int i = 0; i < kRows; ++i) rows.push_back({i < 30 ? 0 : 1, kLength - 7 * i});
    std::vector<float> q = Random(6).Normals(kRows * dim);
    const std::vector<float> all = Run(cache, rows, q, kLength, 1);
    EXPECT_TRUE(SameBits(Run(cache, rows, q, kLength, 2), all));
    EXPECT_TRUE(SameBits(Run(cache, rows, q, kLength, 3), all));
    for (int row : {0, 15, 16, 31, kRows - 1}) {
      std::vector<float> query(q.begin() + row * dim, q.begin() + (row + 1) * dim);
      const std::vector<float> alone = Run(cache, {rows[row]}, query, kLength);
      EXPECT_TRUE(
          SameBits(alone, std::vector<float>(all.begin() + row * kLength, all.begin() + (row + 1) * kLength)))
          << "row " << row;
    }
  }
}

// A score must not depend on where its key lies in a block either: the same key gives the same bits.
TEST_P(IndexScoresTest, BitsDoNotDependOnThePlaceOfAKey) {
  for (int dim : {64, 128, 160}) {
    SCOPED_TRACE(dim);
    constexpr int kLength = 130;
    Cache cache(7, dim, {kLength});
    for (int position = 1; position < kLength; ++position) {
      std::copy_n(cache.Key(0, 0), dim, cache.Key(0, position));
    }
    std::vector<float> q = Random(8).Normals(dim);
    const std::vector<float> scores = Run(cache, {{0, kLength}}, q, kLength);
    EXPECT_TRUE(SameBits(scores, std::vector<float>(kLength, scores[0])));
  }
}

YOIO_TEST_ON_BACKENDS(IndexScoresTest);

}  // namespace
}  // namespace yoio::test
