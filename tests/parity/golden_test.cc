// The forward pass against the PyTorch reference, on random models whose contexts are longer than top_k.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <tuple>
#include <vector>

#include "base/check.h"
#include "engine/checkpoint/safetensors.h"
#include "gtest/gtest.h"
#include "tests/parity/model_harness.h"
#include "tests/support/compare.h"

namespace yoio::test {
namespace {

// Everything is computed in float on both sides, in another order: errors grow with the square root of the
// number of roundings along the longest path, a few hundred here. Measured: 1.1e-6.
constexpr double kRelativeError = 1e-5;

template <typename T>
std::vector<T> Values(const Checkpoint& file, const char* name) {
  const auto view = file.Get(name);
  YOIO_CHECK(view.ok()) << view.status().ToString();
  std::vector<T> values(view->bytes.size() / sizeof(T));
  std::memcpy(values.data(), view->bytes.data(), view->bytes.size());
  return values;
}

struct Golden {
  std::string dir;
  std::vector<int32_t> tokens, rows, index_positions;
  std::vector<float> logits_sparse, logits_dense, index_scores;

  explicit Golden(const std::string& name) : dir(std::string(YOIO_SOURCE_DIR) + "/tests/golden/" + name) {
    const auto opened = Checkpoint::OpenFile(dir + "/golden.safetensors");
    YOIO_CHECK(opened.ok()) << opened.status().ToString();
    const Checkpoint& file = **opened;
    tokens = Values<int32_t>(file, "tokens");
    rows = Values<int32_t>(file, "rows");
    index_positions = Values<int32_t>(file, "index_positions");
    logits_sparse = Values<float>(file, "logits_sparse");
    logits_dense = Values<float>(file, "logits_dense");
    index_scores = Values<float>(file, "index_scores");
  }

  // Tokens [begin, end) of the case as one piece; `last_only`: logits of its last token, else of the golden
  // rows.
  Piece Slice(int32_t slot, int32_t begin, int32_t end) const {
    Piece piece{
        .slot = slot, .start = begin, .ids = {tokens.begin() + begin, tokens.begin() + end}, .outputs = {}};
    for (const int32_t row : rows) {
      if (row >= begin && row < end) piece.outputs.push_back(row - begin);
    }
    return piece;
  }
};

std::unique_ptr<ModelHarness> MakeHarness(const HarnessOptions& options) {
  auto harness = ModelHarness::Create(options);
  YOIO_CHECK(harness.ok()) << harness.status().ToString();
  return *std::move(harness);
}

void Append(const StepOutput& from, StepOutput& to) {
  to.logits.insert(to.logits.end(), from.logits.begin(), from.logits.end());
  to.positions.insert(to.positions.end(), from.positions.begin(), from.positions.end());
}

// The whole case in chunks; the last `generated` tokens one at a time, as if they had been drawn.
StepOutput RunInChunks(ModelHarness& harness, const Golden& golden, int chunk, int generated = 0) {
  StepOutput all;
  const auto size = static_cast<int32_t>(golden.tokens.size());
  const auto run = [&](int32_t begin, int32_t end, bool is_generated) {
    Piece piece = golden.Slice(0, begin, end);
    piece.generated = is_generated;
    const auto output = harness.Run({piece});
    YOIO_CHECK(output.ok()) << output.status().ToString();
    Append(*output, all);
  };
  for (int32_t begin = 0; begin < size - generated; begin += chunk) {
    run(begin, std::min(begin + chunk, size - generated), false);
  }
  for (int32_t begin = size - generated; begin < size; ++begin) run(begin, begin + 1, true);
  return all;
}

void ExpectLogits(const std::vector<float>& actual, const std::vector<float>& expected) {
  ASSERT_EQ(actual.size(), expected.size());
  double error = 0, norm = 0;
  for (size_t i = 0; i < actual.size(); ++i) {
    ASSERT_FALSE(std::isnan(actual[i])) << "at " << i;
    error += std::pow(static_cast<double>(actual[i]) - expected[i], 2);
    norm += std::pow(static_cast<double>(expected[i]), 2);
  }
  EXPECT_LT(std::sqrt(error / norm), kRelativeError);
}

// Sets from different arithmetic may differ only where scores lie within rounding of the k-th one.
void ExpectIndex(const Golden& golden, const std::vector<std::vector<int32_t>>& actual) {
  ASSERT_EQ(actual.size(), golden.rows.size());
  const size_t top_k = golden.index_positions.size() / golden.rows.size();
  const size_t context = golden.tokens.size();
  for (size_t row = 0; row < actual.size(); ++row) {
    const float* scores = golden.index_scores.data() + row * context;
    std::vector<int32_t> expected;
    float kth = INFINITY, largest = 0;
    for (size_t j = 0; j < top_k; ++j) {
      const int32_t position = golden.index_positions[row * top_k + j];
      if (position < 0) continue;
      expected.push_back(position);
      kth = std::min(kth, scores[position]);
    }
    for (int32_t s = 0; s <= golden.rows[row]; ++s) largest = std::max(largest, std::abs(scores[s]));
    ASSERT_EQ(actual[row].size(), expected.size()) << "row " << row;
    EXPECT_TRUE(std::is_sorted(actual[row].begin(), actual[row].end()));
    std::vector<int32_t> differing;
    std::set_symmetric_difference(actual[row].begin(), actual[row].end(), expected.begin(), expected.end(),
                                  std::back_inserter(differing));
    for (const int32_t position : differing) {
      EXPECT_LE(std::abs(scores[position] - kth), kRelativeError * largest)
          << "row " << row << " position " << position;
    }
  }
}

class GoldenTest : public ::testing::TestWithParam<std::tuple<const char*, bool, int>> {
 protected:
  const char* name() const { return std::get<0>(GetParam()); }
  bool dense() const { return std::get<1>(GetParam()); }
  int world() const { return std::get<2>(GetParam()); }
};

TEST_P(GoldenTest, LogitsAndIndexMatchTheReference) {
  const Golden golden(name());
  for (const int chunk : {512, 64, 37}) {
    for (const int generated : {0, 60}) {
      SCOPED_TRACE(testing::Message() << "chunk " << chunk << ", generated " << generated);
      auto harness = MakeHarness({.dir = golden.dir, .dense = dense(), .world = world()});
      const StepOutput output = RunInChunks(*harness, golden, chunk, generated);
      ExpectLogits(output.logits, dense() ? golden.logits_dense : golden.logits_sparse);
      if (!dense()) ExpectIndex(golden, output.positions);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Cases, GoldenTest,
                         ::testing::Combine(::testing::Values("micro", "micro_gqa"), ::testing::Bool(),
                                            ::testing::Values(1, 2, 4)),
                         [](const auto& info) {
                           return std::string(std::get<0>(info.param)) +
                                  (std::get<1>(info.param) ? "Dense" : "Sparse") + "World" +
                                  std::to_string(std::get<2>(info.param));
                         });

// Invariant I5 on CPU, bit for bit: neither chunking, nor threads, nor company changes a token's logits.
class BatchInvarianceTest : public ::testing::TestWithParam<std::tuple<const char*, bool>> {};

TEST_P(BatchInvarianceTest, LogitsDoNotDependOnChunksThreadsOrCompany) {
  const auto& [name, dense] = GetParam();
  const Golden golden(name);
  const int generated = 50;
  auto reference = MakeHarness({.dir = golden.dir, .dense = dense});
  const std::vector<float> expected = RunInChunks(*reference, golden, 512, generated).logits;

  for (const int chunk : {1, 7, 64, 100}) {
    auto harness = MakeHarness({.dir = golden.dir, .dense = dense, .threads = 1 + chunk % 3});
    EXPECT_TRUE(SameBits(RunInChunks(*harness, golden, chunk, generated).logits, expected))
        << "chunk " << chunk;
  }

  // Beside two other sequences: one prefilling other tokens, one decoding.
  auto harness = MakeHarness({.dir = golden.dir, .dense = dense, .threads = 2});
  const auto size = static_cast<int32_t>(golden.tokens.size());
  std::vector<float> actual;
  const auto run = [&](std::vector<Piece> pieces, size_t mine) {
    const auto output = harness->Run(pieces);
    ASSERT_TRUE(output.ok()) << output.status().ToString();
    size_t first = 0;
    for (size_t i = 0; i < mine; ++i) first += pieces[i].outputs.size();
    const int vocab = harness->config().vocab_size;
    actual.insert(actual.end(), output->logits.begin() + first * vocab,
                  output->logits.begin() + (first + pieces[mine].outputs.size()) * vocab);
  };
  int32_t other = 0;
  for (int32_t begin = 0; begin < size - generated; begin += 90) {
    Piece company{.slot = 2, .start = other, .ids = {}, .outputs = {0}};
    for (int32_t i = 0; i < 23; ++i) company.ids.push_back((other + 3 * i) % 200);
    other += 23;
    run({company, golden.Slice(0, begin, std::min(begin + 90, size - generated))}, 1);
  }
  for (int32_t begin = size - generated; begin < size; ++begin) {
    Piece prompt{.slot = 1, .start = (begin - size + generated) * 3, .ids = {5, 6, 7}, .outputs = {2}};
    Piece drawn{.slot = 2, .start = other++, .ids = {11}, .outputs = {0}, .generated = true};
    Piece mine = golden.Slice(0, begin, begin + 1);
    mine.generated = true;
    run({prompt, drawn, mine}, 2);
  }
  EXPECT_TRUE(SameBits(actual, expected));
}

INSTANTIATE_TEST_SUITE_P(Cases, BatchInvarianceTest,
                         ::testing::Combine(::testing::Values("micro", "micro_gqa"), ::testing::Bool()),
                         [](const auto& info) {
                           return std::string(std::get<0>(info.param)) +
                                  (std::get<1>(info.param) ? "Dense" : "Sparse");
                         });

}  // namespace
}  // namespace yoio::test
