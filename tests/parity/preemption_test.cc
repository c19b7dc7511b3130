// Sequences that are preempted while they generate, and go on: swapped to the host and back, or computed
// again, bit for bit as if nothing had happened (invariant I5).
#include <algorithm>
#include <iterator>
#include <memory>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "base/check.h"
#include "gtest/gtest.h"
#include "tests/parity/golden.h"
#include "tests/parity/model_harness.h"
#include "tests/support/compare.h"

namespace yoio::test {
namespace {

// The tokens of a case as a sequence: a prompt in chunks of kChunk, then generated tokens.
constexpr int kPrompt = 130, kChunk = 100;
// More than the ring holds: what it held of the prompt is gone when the sequence is preempted.
constexpr int kPreemptedAt = kPrompt + 150;

struct Device {
  const char* name;
  kernels::DeviceKind kind;
  int world;
};

constexpr Device kDevices[] = {{"Cpu", kernels::DeviceKind::kCpu, 1},
                               {"CpuWorld2", kernels::DeviceKind::kCpu, 2},
                               {"Cuda", kernels::DeviceKind::kCuda, 1}};

class PreemptionTest : public ::testing::TestWithParam<std::tuple<Device, const char*, bool>> {
 protected:
  void SetUp() override {
    const auto& [device, name, dense] = GetParam();
    const auto backend = kernels::MakeBackend(device.kind, 0);
    if (!backend.ok()) GTEST_SKIP() << backend.status();
    golden_ = std::make_unique<Golden>(name);
    harness_ = MakeHarness({.dir = golden_->dir,
                            .device = device.kind,
                            .dense = dense,
                            .world = device.world,
                            .swaps = true});
  }

  int num_tokens() const { return static_cast<int>(golden_->tokens.size()); }

  // Tokens [begin, end) of sequence `number`, each of which has tokens of its own.
  Piece Tokens(int number, int32_t slot, int begin, int end) const {
    Piece piece{.slot = slot, .start = begin, .ids = {}, .outputs = {}, .generated = begin >= kPrompt};
    for (int i = begin; i < end; ++i) piece.ids.push_back((golden_->tokens[i] + 37 * number) % 256);
    return piece;
  }

  std::vector<float> Run(const std::vector<Piece>& pieces) {
    const auto output = harness_->Run(pieces);
    YOIO_CHECK(output.ok()) << output.status().ToString();
    return output->logits;
  }

  void RunPrompt(int number, int32_t slot) {
    for (int begin = 0; begin < kPrompt; begin += kChunk) {
      Run({Tokens(number, slot, begin, std::min(begin + kChunk, kPrompt))});
    }
  }

  // Generates tokens [begin, end) of sequences 0 and 1, one of each a step. Their logits.
  std::vector<float> Generate(int32_t slot0, int32_t slot1, int begin, int end) {
    std::vector<float> logits;
    for (int i = begin; i < end; ++i) {
      Piece first = Tokens(0, slot0, i, i + 1), second = Tokens(1, slot1, i, i + 1);
      first.outputs = second.outputs = {0};
      const std::vector<float> row = Run({first, second});
      logits.insert(logits.end(), row.begin(), row.end());
    }
    return logits;
  }

  std::vector<float> Keys(int32_t slot) {
    if (harness_->config().plan.indexers.empty()) return {};
    return harness_->IndexKeys(slot, num_tokens());
  }

  // What sequences 0 and 1 say from where they will be preempted on, when they are not.
  std::vector<float> Undisturbed() {
    RunPrompt(0, 0);
    RunPrompt(1, 1);
    Generate(0, 1, kPrompt, kPreemptedAt);
    std::vector<float> logits = Generate(0, 1, kPreemptedAt, num_tokens());
    keys_ = Keys(0);
    harness_->Release(0);
    harness_->Release(1);
    return logits;
  }

  // Two others take the place of sequences 0 and 1.
  void RunOthers() {
    RunPrompt(2, 0);
    RunPrompt(3, 1);
    Generate(0, 1, kPrompt, kPrompt + 3);
    harness_->Release(0);
    harness_->Release(1);
  }

  std::unique_ptr<Golden> golden_;
  std::unique_ptr<ModelHarness> harness_;
  std::vector<float> keys_;  // of sequence 0, undisturbed
};

TEST_P(PreemptionTest, SwappedOutAndIn) {
  const std::vector<float> expected = Undisturbed();
  RunPrompt(0, 0);
  RunPrompt(1, 1);
  Generate(0, 1, kPrompt, kPreemptedAt);
  harness_->SwapOut(0, 3);
  harness_->SwapOut(1, 2);
  RunOthers();
  harness_->SwapIn(3, 2);
  harness_->SwapIn(2, 0);
  EXPECT_TRUE(SameBits(Generate(2, 0, kPreemptedAt, num_tokens()), expected));
  EXPECT_TRUE(SameBits(Keys(2), keys_));
}

// One leaves in the step in which the other comes back, to the slot that it leaves and to its blocks.
TEST_P(PreemptionTest, SwappedForEachOther) {
  const std::vector<float> expected = Undisturbed();
  RunPrompt(0, 0);
  RunPrompt(1, 1);
  Generate(0, 1, kPrompt, kPreemptedAt);
  harness_->SwapOut(0, 0);
  harness_->SwapOut(1, 1);
  harness_->SwapIn(0, 1);
  harness_->SwapIn(1, 0);
  EXPECT_TRUE(SameBits(Generate(1, 0, kPreemptedAt, num_tokens()), expected));
  EXPECT_TRUE(SameBits(Keys(1), keys_));
}

// Generated tokens run again in chunks, those of both sequences in one step, beside a prompt and a third
// sequence that generates.
TEST_P(PreemptionTest, ComputedAgain) {
  const std::vector<float> expected = Undisturbed();
  RunOthers();
  RunPrompt(0, 3);
  RunPrompt(1, 0);
  RunPrompt(2, 2);
  int company = 0;
  const int sizes[] = {30, 1, 31, 7, 29};  // 64 generated rows at most: on a GPU more lose their bits
  for (int begin = kPrompt; begin < kPreemptedAt; ++company) {
    const int end = std::min(begin + sizes[company % std::size(sizes)], kPreemptedAt);
    Run({Tokens(3, 1, 3 * company, 3 * company + 3), Tokens(0, 3, begin, end), Tokens(1, 0, begin, end),
         Tokens(2, 2, kPrompt + company, kPrompt + company + 1)});
    begin = end;
  }
  EXPECT_TRUE(SameBits(Generate(3, 0, kPreemptedAt, num_tokens()), expected));
  EXPECT_TRUE(SameBits(Keys(3), keys_));
}

// The last token of a chunk may have an output row: what it says is what it said before.
TEST_P(PreemptionTest, LogitsOfTheLastTokenOfAChunk) {
  const std::vector<float> expected = Undisturbed();
  RunPrompt(0, 0);
  RunPrompt(1, 1);
  Generate(0, 1, kPrompt, kPreemptedAt);
  Piece first = Tokens(0, 0, kPreemptedAt, kPreemptedAt + 32),
        second = Tokens(1, 1, kPreemptedAt, kPreemptedAt + 9);
  first.outputs = {31};
  second.outputs = {8};
  const std::vector<float> logits = Run({first, second});
  const auto vocab = static_cast<std::ptrdiff_t>(logits.size() / 2);
  const auto row = [&](int number, int generated) {
    const auto begin = expected.begin() + (2 * generated + number) * vocab;
    return std::vector<float>(begin, begin + vocab);
  };
  EXPECT_TRUE(SameBits(std::vector<float>(logits.begin(), logits.begin() + vocab), row(0, 31)));
  EXPECT_TRUE(SameBits(std::vector<float>(logits.begin() + vocab, logits.end()), row(1, 8)));
}

INSTANTIATE_TEST_SUITE_P(Cases, PreemptionTest,
                         ::testing::Combine(::testing::ValuesIn(kDevices),
                                            ::testing::Values("micro", "micro_gqa"), ::testing::Bool()),
                         [](const auto& info) {
                           return std::string(std::get<0>(info.param).name) + "_" + std::get<1>(info.param) +
                                  (std::get<2>(info.param) ? "_dense" : "_sparse");
                         });

}  // namespace
}  // namespace yoio::test
