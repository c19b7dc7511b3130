// The forward pass against the PyTorch reference, with contexts longer than top_k.
#include "tests/parity/golden.h"

#include <algorithm>
#include <string>
#include <tuple>
#include <vector>

#include "base/check.h"
#include "gtest/gtest.h"
#include "tests/parity/model_harness.h"
#include "tests/support/compare.h"

namespace yoio::test {
namespace {

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

// The shipped model: real weights, whose scores and logits are far from random.
class ShippedModelTest : public ::testing::TestWithParam<int> {};

TEST_P(ShippedModelTest, LogitsAndIndexMatchTheReference) {
  const Golden golden("tiny");
  for (const bool dense : {false, true}) {
    auto harness = MakeHarness({.dir = golden.dir, .dense = dense, .world = GetParam(), .max_tokens = 1280});
    const StepOutput output = RunInChunks(*harness, golden, 500, /*generated=*/10);
    ExpectLogits(output.logits, dense ? golden.logits_dense : golden.logits_sparse);
    if (!dense) ExpectIndex(golden, output.positions);
  }
}

TEST_P(ShippedModelTest, GreedyTokensMatchTheReference) {
  const Golden golden("tiny");
  const auto prompt = Values<int32_t>(*golden.file, "greedy_prompt");
  const auto expected = Values<int32_t>(*golden.file, "greedy_tokens");
  auto harness =
      MakeHarness({.dir = golden.dir, .world = GetParam(), .max_step_tokens = 1280, .max_tokens = 1280});
  const auto last = static_cast<int32_t>(prompt.size()) - 1;
  Piece next{.slot = 1, .start = 0, .ids = prompt, .outputs = {last}};
  std::vector<int32_t> actual;
  while (actual.size() < expected.size()) {
    const auto output = harness->Run({next});
    ASSERT_TRUE(output.ok()) << output.status().ToString();
    const auto best = std::max_element(output->logits.begin(), output->logits.end());
    actual.push_back(static_cast<int32_t>(best - output->logits.begin()));
    next = {.slot = 1,
            .start = last + static_cast<int32_t>(actual.size()),
            .ids = {actual.back()},
            .outputs = {0},
            .generated = true};
  }
  EXPECT_EQ(actual, expected);
}

INSTANTIATE_TEST_SUITE_P(World, ShippedModelTest, ::testing::Values(1, 2, 4));

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
