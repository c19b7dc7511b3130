// A prompt that begins behind cached blocks, from a snapshot of a ring or by a replay, gives the same bits as
// one that is computed from its first token on.
#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "tests/parity/model_harness.h"

namespace yoio::test {
namespace {

using kernels::kBlockTokens;

constexpr int32_t kPrompt = 300;    // tokens
constexpr int32_t kGenerated = 70;  // more than a block of them
constexpr int32_t kFirst = 0;       // slot of the sequence that leaves its blocks
constexpr int32_t kOther = 1;       // slot of the one that finds them
constexpr int32_t kExpected = 2;    // slot of one that computes everything
constexpr int32_t kSlots = 3;
constexpr int32_t kReplay = 2 * 24;  // two layers, each with a window

std::vector<int32_t> Document(int seed) {
  std::vector<int32_t> ids(kPrompt + kGenerated);
  uint32_t state = seed;
  for (int32_t& id : ids) {
    state = state * 1664525 + 1013904223;
    id = static_cast<int32_t>(state >> 24);
  }
  return ids;
}

struct Ranks {
  int world;
  bool index_by_rows;
  bool dense;
};

class PrefixTest : public testing::TestWithParam<Ranks> {
 protected:
  PrefixTest() {
    auto harness = ModelHarness::Create({.dir = YOIO_SOURCE_DIR "/tests/golden/micro",
                                         .dense = GetParam().dense,
                                         .world = GetParam().world,
                                         .index_by_rows = GetParam().index_by_rows,
                                         .max_sequences = kSlots,
                                         .num_snapshots = 1});
    EXPECT_TRUE(harness.ok()) << harness.status();
    harness_ = *std::move(harness);
  }

  // Runs tokens [begin, end) of `ids` in chunks, and gives the logits of those from `wanted` on.
  std::vector<float> Compute(int32_t slot, const std::vector<int32_t>& ids, int32_t begin, int32_t end,
                             int chunk, int32_t wanted, int32_t global_from = 0) {
    std::vector<float> logits;
    const auto run = [&](int32_t first, int32_t last, bool generated) {
      Piece piece{.slot = slot,
                  .start = first,
                  .ids = {ids.begin() + first, ids.begin() + last},
                  .outputs = {},
                  .generated = generated,
                  .global_from = global_from};
      for (int32_t i = std::max(wanted, first); i < last; ++i) piece.outputs.push_back(i - first);
      const auto output = harness_->Run({piece});
      ASSERT_TRUE(output.ok()) << output.status();
      logits.insert(logits.end(), output->logits.begin(), output->logits.end());
    };
    const int32_t prompt_end = std::min(end, kPrompt);
    for (int32_t at = begin; at < prompt_end; at += chunk) run(at, std::min(at + chunk, prompt_end), false);
    for (int32_t at = std::max(begin, prompt_end); at < end; ++at) run(at, at + 1, true);
    return logits;
  }

  // All of the logits behind `wanted`, without help.
  std::vector<float> Expected(const std::vector<int32_t>& ids, int32_t wanted) {
    harness_->Admit(kExpected);
    return Compute(kExpected, ids, 0, kPrompt + kGenerated, kPrompt, wanted);
  }

  // The second sequence shares the first `found` tokens and runs those from `start` on.
  void ExpectSame(const std::vector<int32_t>& ids, int32_t start, int32_t found, int chunk,
                  bool from_snapshot, const std::vector<float>& expected) {
    SCOPED_TRACE(testing::Message() << "from " << start << ", found " << found << ", chunks of " << chunk);
    harness_->PoisonRing(kOther);
    harness_->Admit(kOther, kFirst, found / kBlockTokens);
    if (from_snapshot) harness_->RestoreRing(/*snapshot=*/0, kOther);
    const std::vector<float> logits = Compute(kOther, ids, start, kPrompt + kGenerated, chunk, found, found);
    const size_t vocab = harness_->config().vocab_size;
    const size_t rows = kPrompt + kGenerated - found;
    ASSERT_EQ(logits.size(), rows * vocab);
    ASSERT_GE(expected.size(), logits.size());
    EXPECT_TRUE(std::equal(logits.begin(), logits.end(), expected.end() - static_cast<long>(logits.size())));
  }

  std::unique_ptr<ModelHarness> harness_;
};

// Any position from a block before the snapshot on, in the tokens of a document that goes another way there.
TEST_P(PrefixTest, GoesOnFromASnapshot) {
  for (const int32_t stood : {192, 150, 255}) {
    SCOPED_TRACE(testing::Message() << "snapshot at " << stood);
    const std::vector<int32_t> first = Document(1);
    const int32_t found = std::max(stood - 64 + 63, 0) / 64 * 64;  // the lowest that it serves
    harness_->Admit(kFirst);
    Compute(kFirst, first, 0, stood, 100, kPrompt);
    harness_->SaveRing(kFirst, /*snapshot=*/0);
    Compute(kFirst, first, stood, stood + 8, 8, kPrompt);
    for (int32_t boundary = found; boundary <= stood; boundary += kBlockTokens) {
      std::vector<int32_t> ids = Document(2);
      std::copy_n(first.begin(), boundary, ids.begin());
      const std::vector<float> expected = Expected(ids, boundary);
      for (const int chunk : {kPrompt, 64, 7}) ExpectSame(ids, boundary, boundary, chunk, true, expected);
    }
  }
}

// The snapshot stands behind tokens of the same document: what lies between is replayed.
TEST_P(PrefixTest, ReplaysFromASnapshot) {
  const std::vector<int32_t> ids = Document(1);
  harness_->Admit(kFirst);
  Compute(kFirst, ids, 0, 150, kPrompt, kPrompt);
  harness_->SaveRing(kFirst, /*snapshot=*/0);
  Compute(kFirst, ids, 150, 256, kPrompt, kPrompt);
  const std::vector<float> expected = Expected(ids, 192);
  for (const int32_t start : {150, 131, 128}) {
    for (const int chunk : {kPrompt, 64, 5}) {
      ExpectSame(ids, start, 192, chunk, true, expected);
      ExpectSame(ids, start, 256, chunk, true, expected);
    }
  }
}

// What lies in the ring before the first replayed token reaches none that is not.
TEST_P(PrefixTest, ReplaysWithoutASnapshot) {
  const std::vector<int32_t> ids = Document(1);
  harness_->Admit(kFirst);
  Compute(kFirst, ids, 0, kPrompt, kPrompt, kPrompt);
  const std::vector<float> expected = Expected(ids, 64);
  for (const int32_t found : {64, 128, 256}) {
    for (const int chunk : {kPrompt, 64, 24, 5, 1}) {
      ExpectSame(ids, found - kReplay, found, chunk, false, expected);
      if (found == 64) ExpectSame(ids, 0, found, chunk, false, expected);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Worlds, PrefixTest,
                         testing::Values(Ranks{1, false, false}, Ranks{1, false, true},
                                         Ranks{2, false, false}, Ranks{2, true, false}),
                         [](const testing::TestParamInfo<Ranks>& info) {
                           return "World" + std::to_string(info.param.world) +
                                  (info.param.index_by_rows ? "ByRows" : "") +
                                  (info.param.dense ? "Dense" : "");
                         });

}  // namespace
}  // namespace yoio::test
