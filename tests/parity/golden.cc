#include "tests/parity/golden.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <iterator>
#include <utility>

#include "base/check.h"
#include "gtest/gtest.h"

namespace yoio::test {

template <typename T>
std::vector<T> Values(const Checkpoint& file, const char* name) {
  const auto view = file.Get(name);
  YOIO_CHECK(view.ok()) << view.status().ToString();
  std::vector<T> values(view->bytes.size() / sizeof(T));
  std::memcpy(values.data(), view->bytes.data(), view->bytes.size());
  return values;
}

template std::vector<float> Values(const Checkpoint& file, const char* name);
template std::vector<int32_t> Values(const Checkpoint& file, const char* name);

Golden::Golden(const std::string& name) {
  const std::string root = YOIO_SOURCE_DIR;
  const std::string folder = root + "/tests/golden/" + name;
  dir = name == "tiny" ? root + "/models/yoio-tiny" : folder;
  auto opened = Checkpoint::OpenFile(folder + "/golden.safetensors");
  YOIO_CHECK(opened.ok()) << opened.status().ToString();
  file = *std::move(opened);
  tokens = Values<int32_t>(*file, "tokens");
  rows = Values<int32_t>(*file, "rows");
  index_positions = Values<int32_t>(*file, "index_positions");
  index_scores = Values<float>(*file, "index_scores");
  logits_sparse = Values<float>(*file, "logits_sparse");
  logits_dense = Values<float>(*file, "logits_dense");
}

Piece Golden::Slice(int32_t slot, int32_t begin, int32_t end) const {
  Piece piece{
      .slot = slot, .start = begin, .ids = {tokens.begin() + begin, tokens.begin() + end}, .outputs = {}};
  for (const int32_t row : rows) {
    if (row >= begin && row < end) piece.outputs.push_back(row - begin);
  }
  return piece;
}

std::unique_ptr<ModelHarness> MakeHarness(const HarnessOptions& options) {
  auto harness = ModelHarness::Create(options);
  YOIO_CHECK(harness.ok()) << harness.status().ToString();
  return *std::move(harness);
}

static void Append(const StepOutput& from, StepOutput& to) {
  to.logits.insert(to.logits.end(), from.logits.begin(), from.logits.end());
  to.queries.insert(to.queries.end(), from.queries.begin(), from.queries.end());
  to.positions.insert(to.positions.end(), from.positions.begin(), from.positions.end());
}

// The whole case in chunks; the last `generated` tokens one at a time, as if they had been drawn.
StepOutput RunInChunks(ModelHarness& harness, const Golden& golden, int chunk, int generated) {
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

void ExpectLogits(const std::vector<float>& actual, const std::vector<float>& expected,
                  double relative_error) {
  ASSERT_EQ(actual.size(), expected.size());
  double error = 0, norm = 0;
  for (size_t i = 0; i < actual.size(); ++i) {
    ASSERT_FALSE(std::isnan(actual[i])) << "at " << i;
    error += std::pow(static_cast<double>(actual[i]) - expected[i], 2);
    norm += std::pow(static_cast<double>(expected[i]), 2);
  }
  EXPECT_LT(std::sqrt(error / norm), relative_error);
}

void ExpectIndex(const Golden& golden, const std::vector<std::vector<int32_t>>& actual,
                 double relative_error) {
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
      EXPECT_LE(std::abs(scores[position] - kth), relative_error * largest)
          << "row " << row << " position " << position;
    }
  }
}

}  // namespace yoio::test
