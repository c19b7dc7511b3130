// The GPU against the PyTorch reference and against the CPU: the same model in bf16 instead of fp32.
#include <algorithm>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "base/check.h"
#include "base/host_resources.h"
#include "engine/tokenizer/tokenizer.h"
#include "gtest/gtest.h"
#include "tests/parity/documents.h"
#include "tests/parity/golden.h"
#include "tests/parity/model_harness.h"

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
