// A token drawn from the parts of a vocabulary is the token drawn from the whole.
#include <algorithm>
#include <limits>
#include <vector>

#include "tests/support/backend_test.h"
#include "tests/support/compare.h"
#include "tests/support/random.h"

namespace yoio::test {
namespace {

using kernels::Candidate;
using kernels::DrawRow;

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

DrawRow Greedy(int32_t logits_row) {
  DrawRow row{};
  row.logits_row = logits_row;
  row.top_p = 1.0f;
  return row;
}

DrawRow RandomRow(Random& random, int32_t logits_row) {
  DrawRow row = Greedy(logits_row);
  constexpr float kTemperatures[] = {0.0f, 1.0f, 0.7f, 1.3f, 0.05f, 20.0f, 1e-44f, 1e-30f, 3e38f};
  row.temperature = kTemperatures[random.Below(9)];
  if (row.temperature == 0.0f && random.Below(2) == 0) row.top_k = 3, row.top_p = 0.5f, row.min_p = 0.1f;
  row.seed_low = random.Below(1 << 30);
  row.seed_high = random.Below(3);
  row.sample_index = random.Below(5);
  row.output_position = random.Below(200000);
  return row;
}

// Bell-shaped, narrow and wide, with few distinct values, with all equal, with infinities of both signs.
std::vector<float> RandomLogits(Random& random, int vocab) {
  const int kind = random.Below(8);
  constexpr float kSpreads[] = {3.0f, 0.1f, 12.0f, 2.0f, 0.0f, 1.0f, 1.0f, 1.0f};
  std::vector<float> logits = random.Normals(vocab, kSpreads[kind]);
  for (float& logit : logits) {
    if (kind == 3) logit = static_cast<float>(static_cast<int>(logit));
    if (kind == 5 && random.Below(3) > 0) logit = -kInf;
    if (kind == 7) logit = -kInf;
  }
  for (int i = 0; kind == 6 && i < 3; ++i) logits[random.Below(vocab)] = kInf;
  return logits;
}

class DrawPartsTest : public BackendTest {
 protected:
  struct Inputs {
    int vocab;
    std::vector<float> logits;    // [rows of logits, vocab]
    std::vector<float> adjusted;  // [rows, vocab]
    std::vector<DrawRow> rows;
  };

  static Inputs RandomInputs(Random& random, int vocab, int num_rows) {
    constexpr int kLogitsRows = 6;
    Inputs in{.vocab = vocab, .logits = {}, .adjusted = {}, .rows = {}};
    const auto append = [&](std::vector<float>& all) {
      const std::vector<float> logits = RandomLogits(random, vocab);
      all.insert(all.end(), logits.begin(), logits.end());
    };
    for (int i = 0; i < kLogitsRows; ++i) append(in.logits);
    for (int i = 0; i < num_rows; ++i) {
      append(in.adjusted);
      in.rows.push_back(RandomRow(random, random.Below(kLogitsRows + 1) - 1));  // padding among them
      in.rows.back().is_adjusted = random.Below(2);
    }
    return in;
  }

  std::vector<int32_t> DrawWhole(const Inputs& in) {
    const DeviceArray<float> logits = Upload(in.logits), adjusted = Upload(in.adjusted);
    const DeviceArray<DrawRow> rows = Upload(in.rows);
    const DeviceArray<int32_t> ids = Poisoned<int32_t>(in.rows.size());
    backend().Draw({.logits = logits.data(),
                    .logits_stride = in.vocab,
                    .vocab = in.vocab,
                    .rows = rows.data(),
                    .num_rows = static_cast<int>(in.rows.size()),
                    .ids = ids.data(),
                    .adjusted = adjusted.data()},
                   stream());
    return ids.Read();
  }

  // Columns [begin, end) of rows of `vocab`, `stride` apart, with NaN behind them.
  static std::vector<float> Columns(const std::vector<float>& all, int vocab, int begin, int end,
                                    int stride) {
    const size_t rows = all.size() / vocab;
    std::vector<float> part(rows * stride, kNan);
    for (size_t row = 0; row < rows; ++row) {
      std::copy(all.begin() + row * vocab + begin, all.begin() + row * vocab + end,
                part.begin() + row * stride);
    }
    return part;
  }

  std::vector<Candidate> Candidates(const Inputs& in, int begin, int end, int stride) {
    const DeviceArray<float> logits = Upload(Columns(in.logits, in.vocab, begin, end, stride)),
                             adjusted = Upload(Columns(in.adjusted, in.vocab, begin, end, stride));
    const DeviceArray<DrawRow> rows = Upload(in.rows);
    const DeviceArray<Candidate> candidates = Poisoned<Candidate>(in.rows.size());
    backend().Draw({.logits = logits.data(),
                    .logits_stride = stride,
                    .vocab = end - begin,
                    .rows = rows.data(),
                    .num_rows = static_cast<int>(in.rows.size()),
                    .ids = nullptr,
                    .adjusted = adjusted.data(),
                    .first_id = begin,
                    .candidates = candidates.data()},
                   stream());
    return candidates.Read();
  }

  std::vector<int32_t> Pick(const std::vector<Candidate>& candidates, int num_parts,
                            const std::vector<DrawRow>& rows) {
    const DeviceArray<Candidate> device_candidates = Upload(candidates);
    const DeviceArray<DrawRow> device_rows = Upload(rows);
    const DeviceArray<int32_t> ids = Poisoned<int32_t>(rows.size());
    backend().Pick({.candidates = device_candidates.data(),
                    .num_parts = num_parts,
                    .rows = device_rows.data(),
                    .num_rows = static_cast<int>(rows.size()),
                    .ids = ids.data()},
                   stream());
    return ids.Read();
  }

  std::vector<int32_t> DrawInParts(const Inputs& in, int num_parts, int part_width) {
    std::vector<Candidate> all;
    for (int part = 0; part < num_parts; ++part) {
      const int begin = std::min(part * part_width, in.vocab);
      const int end = std::min(begin + part_width, in.vocab);
      const std::vector<Candidate> candidates = Candidates(in, begin, end, part_width);
      all.insert(all.end(), candidates.begin(), candidates.end());
    }
    return Pick(all, num_parts, in.rows);
  }
};

TEST_P(DrawPartsTest, DrawWhatTheWholeDraws) {
  Random random(3);
  for (const int vocab : {1, 5, 31, 1000, 4099}) {
    for (const int num_parts : {1, 2, 3, 4, 8}) {
      const int least = (vocab + num_parts - 1) / num_parts;
      for (const int part_width :
           {(least + 3) / 4 * 4, (least + 7) / 4 * 4}) {  // the second leaves more empty
        const Inputs in = RandomInputs(random, vocab, 40);
        EXPECT_TRUE(SameBits(DrawInParts(in, num_parts, part_width), DrawWhole(in)))
            << vocab << " tokens in " << num_parts << " parts of " << part_width;
      }
    }
  }
}

TEST_P(DrawPartsTest, ALargeVocabulary) {
  Random random(5);
  const Inputs in = RandomInputs(random, 128256, on_cuda() ? 40 : 8);
  for (const int num_parts : {2, 4, 8}) {
    EXPECT_TRUE(SameBits(DrawInParts(in, num_parts, 128256 / num_parts), DrawWhole(in))) << num_parts;
  }
}

TEST_P(DrawPartsTest, ANanInAnyPartIsNoToken) {
  constexpr int kVocab = 24;
  DrawRow plain = Greedy(0);
  plain.temperature = 1.0f;
  for (int at = 0; at < kVocab; ++at) {
    Inputs in{.vocab = kVocab, .logits = std::vector<float>(kVocab), .adjusted = {}, .rows = {}};
    in.rows = {Greedy(0), plain};
    in.adjusted.resize(2 * kVocab);
    in.logits[(at + 9) % kVocab] = kInf;
    in.logits[at] = kNan;
    EXPECT_EQ(DrawInParts(in, 3, 8), (std::vector<int32_t>{-1, -1})) << at;
  }
}

TEST_P(DrawPartsTest, GreedyTiesGoToTheLowestIdOfAllParts) {
  constexpr int kVocab = 32;
  for (int first = 0; first < kVocab; ++first) {
    Inputs in{.vocab = kVocab, .logits = std::vector<float>(kVocab, -1.0f), .adjusted = {}, .rows = {}};
    in.rows = {Greedy(0)};
    in.adjusted.resize(kVocab);
    for (int id = first; id < kVocab; id += 5) in.logits[id] = id % 2 == 0 ? 0.0f : -0.0f;
    EXPECT_EQ(DrawInParts(in, 4, 8), (std::vector<int32_t>{first}));
  }
}

TEST_P(DrawPartsTest, TheCandidateOfAnEmptyPartLoses) {
  constexpr int kVocab = 6;
  Inputs in{.vocab = kVocab, .logits = std::vector<float>(kVocab, -kInf), .adjusted = {}, .rows = {}};
  in.rows = {Greedy(0)};
  in.adjusted.resize(kVocab);
  const Candidate empty = Candidates(in, kVocab, kVocab, 4)[0];
  EXPECT_EQ(empty.id, kVocab);
  EXPECT_EQ(empty.logit, -kInf);
  EXPECT_EQ(DrawInParts(in, 3, 4), (std::vector<int32_t>{0}));
}

YOIO_TEST_ON_BACKENDS(DrawPartsTest);

}  // namespace
}  // namespace yoio::test
