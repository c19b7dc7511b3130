// The GPU against the PyTorch reference and against the CPU: the same model in bf16 instead of fp32.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "base/check.h"
#include "base/host_resources.h"
#include "engine/tokenizer/tokenizer.h"
#include "gtest/gtest.h"
#include "tests/parity/golden.h"
#include "tests/parity/model_harness.h"
#include "tests/support/random.h"

namespace yoio::test {
namespace {

// Every activation is rounded to 8 bits, 2^-9 of it on average. A residual block adds a handful of such
// roundings to a stream that is kept in fp32; over the twenty blocks of these models they add up like a
// random walk. A wrong kernel is off by tens of percent.
constexpr double kBf16Error = 0.04;

class DeviceTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const auto gpu = kernels::MakeBackend(kernels::DeviceKind::kCuda, 0);
    if (!gpu.ok()) GTEST_SKIP() << gpu.status();
  }
};

class DeviceGoldenTest : public DeviceTest, public ::testing::WithParamInterface<const char*> {};

TEST_P(DeviceGoldenTest, LogitsAndIndexMatchTheReference) {
  const Golden golden(GetParam());
  for (const bool dense : {false, true}) {
    for (const int chunk : {512, 37}) {
      SCOPED_TRACE(testing::Message() << (dense ? "dense" : "sparse") << ", chunk " << chunk);
      auto harness = MakeHarness(
          {.dir = golden.dir, .device = kernels::DeviceKind::kCuda, .dense = dense, .max_tokens = 1280});
      const StepOutput output = RunInChunks(*harness, golden, chunk, /*generated=*/60);
      ExpectLogits(output.logits, dense ? golden.logits_dense : golden.logits_sparse, kBf16Error);
      if (!dense) ExpectIndex(golden, output.positions, kBf16Error);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Cases, DeviceGoldenTest, ::testing::Values("micro", "micro_gqa", "tiny"));

// Documents of the shipped model's kind: its demo text in another order, a fact in it, and the question.
class Documents {
 public:
  Documents() {
    const std::string demo = std::string(YOIO_SOURCE_DIR) + "/models/yoio-tiny/demo/";
    std::ifstream text(demo + "document.txt"), words(demo + "words.txt");
    for (std::string line; std::getline(text, line);) lines_.push_back(line);
    for (std::string word; words >> word;) {
      if (word.back() == ':') {
        lists_.emplace_back();
      } else {
        lists_.back().push_back(word);
      }
    }
  }

  // Number 0 is the whole demo document in its own order, with a fact; the others are shorter.
  std::string Make(int number) const {
    Random random(number);
    std::vector<std::string> lines = lines_;
    if (number > 0) {
      for (size_t i = lines.size() - 1; i > 0; --i)
        std::swap(lines[i], lines[random.Below(static_cast<int>(i) + 1)]);
      lines.resize(300 + random.Below(700));
    }
    const std::string key = lists_[0][random.Below(static_cast<int>(lists_[0].size()))] + " " +
                            lists_[1][random.Below(static_cast<int>(lists_[1].size()))];
    char fact[8];
    std::snprintf(fact, sizeof(fact), "%05d", static_cast<int>(random.Below(100000)));
    lines.insert(lines.begin() + static_cast<std::ptrdiff_t>(random.Below(static_cast<int>(lines.size()))),
                 "Remember: the " + key + " code is " + fact + ".");
    std::string document;
    for (const std::string& line : lines) document += line + "\n";
    return document + "\nThe " + key + " code is";
  }

 private:
  std::vector<std::string> lines_;
  std::vector<std::vector<std::string>> lists_;  // adjectives, nouns
};

struct Continuation {
  std::vector<int32_t> ids;
  std::vector<std::vector<float>> logits;  // that each was chosen from
};

// Greedy; the cache of slot 0 is written over by every call.
Continuation Continue(ModelHarness& harness, const std::vector<int32_t>& prompt, int count) {
  Continuation result;
  const int chunk = 1024;
  const auto size = static_cast<int32_t>(prompt.size());
  const auto take = [&](const absl::StatusOr<StepOutput>& output) {
    YOIO_CHECK(output.ok()) << output.status().ToString();
    const auto best = std::max_element(output->logits.begin(), output->logits.end());
    result.ids.push_back(static_cast<int32_t>(best - output->logits.begin()));
    result.logits.push_back(output->logits);
  };
  for (int32_t begin = 0; begin < size; begin += chunk) {
    const int32_t end = std::min(begin + chunk, size);
    Piece piece{
        .slot = 0, .start = begin, .ids = {prompt.begin() + begin, prompt.begin() + end}, .outputs = {}};
    if (end == size) piece.outputs = {end - begin - 1};
    const auto output = harness.Run({piece});
    if (end == size) take(output);
  }
  while (static_cast<int>(result.ids.size()) < count) {
    const auto place = size + static_cast<int32_t>(result.ids.size()) - 1;
    take(harness.Run(
        {{.slot = 0, .start = place, .ids = {result.ids.back()}, .outputs = {0}, .generated = true}}));
  }
  return result;
}

// By how much the first device preferred its token to the other's: the difference of their log-probabilities.
float Gap(const std::vector<float>& logits, int32_t chosen, int32_t other) {
  return logits[chosen] - logits[other];
}

TEST_F(DeviceTest, GreedyTextIsTheSameAsOnTheCpu) {
  constexpr int kDocuments = 51, kTokens = 12;
  constexpr float kNearTie = 0.25f;  // nats: a preference of 56 to 44 between two tokens
  const Documents documents;
  const auto tokenizer = Tokenizer::FromFile(YOIO_SOURCE_DIR "/models/yoio-tiny/tokenizer.json");
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  HarnessOptions options{.dir = YOIO_SOURCE_DIR "/models/yoio-tiny",
                         .threads = AvailableThreads(),
                         .max_step_tokens = 1024,
                         .max_sequences = 1,
                         .max_tokens = 24576};
  const auto cpu = MakeHarness(options);
  options.device = kernels::DeviceKind::kCuda;
  const auto gpu = MakeHarness(options);
  int flips = 0;
  for (int number = 0; number < kDocuments; ++number) {
    const auto prompt = (*tokenizer)->Encode(documents.Make(number));
    ASSERT_TRUE(prompt.ok()) << prompt.status();
    const Continuation expected = Continue(*cpu, *prompt, kTokens), actual = Continue(*gpu, *prompt, kTokens);
    const auto [theirs, ours] = std::mismatch(expected.ids.begin(), expected.ids.end(), actual.ids.begin());
    if (theirs == expected.ids.end()) continue;
    const auto place = theirs - expected.ids.begin();
    const float gap = Gap(expected.logits[place], *theirs, *ours);
    std::printf("document %d (%zu tokens), token %td: cpu '%s', gpu '%s', log-probabilities %.4f apart\n",
                number, prompt->size(), place, (*tokenizer)->Decode({*theirs}, false).c_str(),
                (*tokenizer)->Decode({*ours}, false).c_str(), gap);
    EXPECT_LT(gap, kNearTie);
    ++flips;
  }
  std::printf("%d of %d continuations of %d tokens are the same\n", kDocuments - flips, kDocuments, kTokens);
  EXPECT_LE(flips, kDocuments / 10);
}

}  // namespace
}  // namespace yoio::test
