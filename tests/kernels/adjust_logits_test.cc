#include <cmath>
#include <limits>
#include <map>
#include <vector>

#include "kernels/logit_math.h"
#include "tests/support/backend_test.h"
#include "tests/support/compare.h"
#include "tests/support/random.h"

namespace yoio::test {
namespace {

using kernels::AdjustRow;
using kernels::kSeenBit;
using kernels::LogitBias;

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

AdjustRow Nothing(int32_t logits_row = 0) {
  return {.logits_row = logits_row,
          .slot = -1,
          .repetition_penalty = 1.0f,
          .frequency_penalty = 0.0f,
          .presence_penalty = 0.0f,
          .bias_begin = 0,
          .bias_count = 0,
          .ban_begin = 0,
          .ban_count = 0};
}

// What a call of AdjustLogits reads.
struct Inputs {
  int vocab;
  std::vector<float> logits;
  std::vector<AdjustRow> rows;
  std::vector<LogitBias> biases = {};
  std::vector<int32_t> bans = {};
  std::vector<uint32_t> history = {};
};

class AdjustLogitsTest : public BackendTest {
 protected:
  std::vector<float> Adjust(const Inputs& in) {
    const DeviceArray<float> logits = Upload(in.logits);
    const DeviceArray<AdjustRow> rows = Upload(in.rows);
    const DeviceArray<LogitBias> biases = Upload(in.biases);
    const DeviceArray<int32_t> bans = Upload(in.bans);
    const DeviceArray<uint32_t> history = Upload(in.history);
    const DeviceArray<float> out = Poisoned<float>(in.rows.size() * in.vocab);
    backend().AdjustLogits({.logits = logits.data(),
                            .logits_stride = in.vocab,
                            .vocab = in.vocab,
                            .rows = rows.data(),
                            .num_rows = static_cast<int>(in.rows.size()),
                            .biases = biases.data(),
                            .bans = bans.data(),
                            .history = history.data(),
                            .out = out.data()},
                           stream());
    return out.Read();
  }
};

// The definition, in the words of ops.h.
std::vector<float> AdjustByDefinition(const Inputs& in) {
  std::vector<float> out(in.rows.size() * in.vocab, PoisonValue<float>());
  for (size_t i = 0; i < in.rows.size(); ++i) {
    const AdjustRow& row = in.rows[i];
    if (row.logits_row < 0) continue;
    std::map<int32_t, float> biases;
    for (int b = 0; b < row.bias_count; ++b) {
      biases[in.biases[row.bias_begin + b].id] = in.biases[row.bias_begin + b].bias;
    }
    std::map<int32_t, bool> bans;
    for (int b = 0; b < row.ban_count; ++b) bans[in.bans[row.ban_begin + b]] = true;
    for (int32_t id = 0; id < in.vocab; ++id) {
      volatile float x = in.logits[row.logits_row * in.vocab + id];  // every operation is rounded
      if (!std::isnan(x)) {
        const uint32_t word = row.slot < 0 ? 0 : in.history[row.slot * in.vocab + id];
        if (word != 0 && x > 0) {
          x = x / row.repetition_penalty;
        } else if (word != 0) {
          x = x * row.repetition_penalty;
        }
        if (const uint32_t count = word & ~kSeenBit; count > 0) {
          volatile float frequency = row.frequency_penalty * static_cast<float>(count);
          x = x - frequency;
          x = x - row.presence_penalty;
        }
        if (biases.contains(id)) x = x + biases[id];
        if (std::isnan(x) || bans.contains(id)) x = -kInf;
      }
      out[i * in.vocab + id] = x;
    }
  }
  return out;
}

TEST_P(AdjustLogitsTest, ByHand) {
  AdjustRow row = Nothing();
  row.slot = 1;
  row.repetition_penalty = 2.0f;
  row.frequency_penalty = 0.25f;
  row.presence_penalty = 0.5f;
  row.bias_begin = 1;
  row.bias_count = 1;
  row.ban_begin = 0;
  row.ban_count = 1;
  EXPECT_EQ(
      Adjust({.vocab = 6,
              .logits = {4, -4, 4, -4, 0, 1},
              .rows = {row},
              .biases = {{5, 99}, {3, 10}},
              .bans = {4},
              .history = {0, 0, 0, 0, 0, kSeenBit, kSeenBit, kSeenBit, kSeenBit + 1, kSeenBit + 3, 0, 0}}),
      (std::vector<float>{2, -8, 1.25f, 0.75f, -kInf, 1}));
}

TEST_P(AdjustLogitsTest, ANanStaysAndOppositeInfinitiesAreABan) {
  AdjustRow row = Nothing();
  row.bias_count = 4;
  row.ban_count = 2;
  const std::vector<float> out = Adjust({.vocab = 5,
                                         .logits = {kNan, kInf, kNan, -kInf, kInf},
                                         .rows = {row},
                                         .biases = {{0, 1}, {1, -kInf}, {3, kInf}, {4, 5}},
                                         .bans = {2, 2}});
  EXPECT_TRUE(std::isnan(out[0]));
  EXPECT_EQ(out[1], -kInf);
  EXPECT_TRUE(std::isnan(out[2]));
  EXPECT_EQ(out[3], -kInf);
  EXPECT_EQ(out[4], kInf);
}

TEST_P(AdjustLogitsTest, AgreesWithTheDefinition) {
  constexpr int kLogitsRows = 3, kSlots = 4;
  constexpr float kRepetition[] = {1.0f, 1.1f, 0.7f, 2.0f};
  constexpr float kPenalties[] = {0.0f, 0.3f, -1.7f, 2.0f};
  Random random(5);
  for (const int vocab : {1, 31, 257, 4096, 4097, 20011}) {
    Inputs in{.vocab = vocab, .logits = random.Normals(kLogitsRows * vocab, 4.0f), .rows = {}};
    for (int i = 0; i < kSlots * vocab; ++i) {
      const int kind = random.Below(8);
      in.history.push_back(kind > 1 ? 0 : kind == 0 ? kSeenBit : kSeenBit + 1 + random.Below(100));
    }
    for (int i = 0; i < 9; ++i) {
      AdjustRow row = Nothing(random.Below(kLogitsRows + 1) - 1);  // padding among them
      row.slot = random.Below(kSlots + 1) - 1;
      row.repetition_penalty = kRepetition[random.Below(4)];
      row.frequency_penalty = kPenalties[random.Below(4)];
      row.presence_penalty = kPenalties[random.Below(4)];
      const std::vector<int32_t> ids = random.Permutation(vocab);
      row.bias_begin = static_cast<int32_t>(in.biases.size());
      row.bias_count = std::min<int>(vocab, random.Below(3) == 0 ? 1000 : random.Below(3));
      for (int b = 0; b < row.bias_count; ++b) in.biases.push_back({ids[b], random.Normals(1, 5.0f)[0]});
      row.ban_begin = static_cast<int32_t>(in.bans.size());
      row.ban_count = random.Below(4);
      for (int b = 0; b < row.ban_count; ++b) in.bans.push_back(random.Below(vocab));
      in.rows.push_back(row);
    }
    EXPECT_TRUE(SameBits(Adjust(in), AdjustByDefinition(in))) << "vocabulary " << vocab;
  }
}

TEST_P(AdjustLogitsTest, ADrawReadsWhatIsAdjusted) {
  using kernels::DrawRow;
  const auto greedy = [](int32_t logits_row, int32_t is_adjusted) {
    DrawRow row{};
    row.logits_row = logits_row;
    row.top_p = 1.0f;
    row.is_adjusted = is_adjusted;
    return row;
  };
  const DeviceArray<float> logits = Upload<float>({1, 2, 3, 9, 6, 5, 4, 9});
  const DeviceArray<float> adjusted = Upload<float>({9, 9, 9, 9, 0, 7, 0, 9, 0, 0, 7, 9, 9, 9, 9, 9});
  const DeviceArray<DrawRow> rows =
      Upload<DrawRow>({greedy(1, 0), greedy(1, 1), greedy(0, 1), greedy(-1, 1)});
  const DeviceArray<int32_t> ids = Poisoned<int32_t>(4);
  backend().Draw({.logits = logits.data(),
                  .logits_stride = 4,
                  .vocab = 3,
                  .rows = rows.data(),
                  .num_rows = 4,
                  .ids = ids.data(),
                  .adjusted = adjusted.data()},
                 stream());
  const std::vector<int32_t> drawn = ids.Read();
  EXPECT_EQ((std::vector<int32_t>(drawn.begin(), drawn.end() - 1)), (std::vector<int32_t>{0, 1, 2}));
  EXPECT_TRUE(IsPoison(drawn.back()));
}

TEST_P(AdjustLogitsTest, RowsLieAStrideApart) {
  const DeviceArray<float> logits = Upload<float>({9, 9, 9, 9, 4, 3, 9, 9});
  const DeviceArray<AdjustRow> rows = Upload<AdjustRow>({Nothing(1), Nothing(-1), Nothing(1)});
  const DeviceArray<float> out = Poisoned<float>(12);
  backend().AdjustLogits({.logits = logits.data(),
                          .logits_stride = 4,
                          .vocab = 2,
                          .rows = rows.data(),
                          .num_rows = 3,
                          .biases = nullptr,
                          .bans = nullptr,
                          .history = nullptr,
                          .out = out.data()},
                         stream());
  std::vector<float> expected(12, PoisonValue<float>());
  expected[0] = expected[8] = 4;
  expected[1] = expected[9] = 3;
  EXPECT_TRUE(SameBits(out.Read(), expected));
}

TEST_P(AdjustLogitsTest, RecordsWhatWasDrawn) {
  constexpr int kVocab = 5, kRows = 300;
  Random random(9);
  std::vector<uint32_t> history(kRows * kVocab);
  std::vector<AdjustRow> rows;
  std::vector<int32_t> ids;
  const std::vector<int32_t> slots = random.Permutation(kRows);
  for (int i = 0; i < kRows; ++i) {
    rows.push_back(Nothing());
    rows[i].slot = i % 7 == 0 ? -1 : slots[i];
    ids.push_back(random.Below(kVocab + 1) - 1);
  }
  for (uint32_t& word : history) word = random.Below(2) == 0 ? 0 : kSeenBit + random.Below(3);
  const DeviceArray<uint32_t> device_history = Upload(history);
  const DeviceArray<AdjustRow> device_rows = Upload(rows);
  const DeviceArray<int32_t> device_ids = Upload(ids);
  for (int turn = 0; turn < 2; ++turn) {
    backend().RecordTokens({.ids = device_ids.data(),
                            .rows = device_rows.data(),
                            .num_rows = kRows,
                            .vocab = kVocab,
                            .history = device_history.data()},
                           stream());
    for (int i = 0; i < kRows; ++i) {
      if (rows[i].slot < 0 || ids[i] < 0) continue;
      uint32_t& word = history[rows[i].slot * kVocab + ids[i]];
      word = (word | kSeenBit) + 1;
    }
  }
  EXPECT_TRUE(SameBits(device_history.Read(), history));
}

TEST_P(AdjustLogitsTest, EachPartRecordsItsOwn) {
  const DeviceArray<int32_t> ids = Upload<int32_t>({7, 8, 10, 11, -1});
  std::vector<AdjustRow> rows(5, Nothing());
  for (int i = 0; i < 5; ++i) rows[i].slot = i;
  const DeviceArray<AdjustRow> device_rows = Upload(rows);
  const DeviceArray<uint32_t> history = Upload(std::vector<uint32_t>(5 * 3));
  backend().RecordTokens({.ids = ids.data(),
                          .rows = device_rows.data(),
                          .num_rows = 5,
                          .vocab = 3,
                          .history = history.data(),
                          .first_id = 8},
                         stream());
  std::vector<uint32_t> expected(5 * 3);
  expected[1 * 3 + 0] = expected[2 * 3 + 2] = kSeenBit + 1;
  EXPECT_TRUE(SameBits(history.Read(), expected));
}

YOIO_TEST_ON_BACKENDS(AdjustLogitsTest);

}  // namespace
}  // namespace yoio::test
