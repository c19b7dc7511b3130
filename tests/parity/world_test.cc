// Several ranks against one: the same model, the same tokens, sums in another order.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include "base/check.h"
#include "engine/tokenizer/tokenizer.h"
#include "gtest/gtest.h"
#include "tests/parity/documents.h"
#include "tests/parity/golden.h"
#include "tests/parity/model_harness.h"
#include "tests/support/compare.h"

namespace yoio::test {
namespace {

using kernels::DeviceKind;

// Where a group of ranks runs.
struct Group {
  DeviceKind device;
  CommunicatorKind communicator;
  int world;
};

constexpr Group kGroups[] = {
    {DeviceKind::kCpu, CommunicatorKind::kLocal, 2},  {DeviceKind::kCpu, CommunicatorKind::kLocal, 4},
    {DeviceKind::kCpu, CommunicatorKind::kSocket, 2}, {DeviceKind::kCpu, CommunicatorKind::kSocket, 4},
    {DeviceKind::kCuda, CommunicatorKind::kNccl, 2},  {DeviceKind::kCuda, CommunicatorKind::kNccl, 4},
};

std::string GroupName(const Group& group) {
  constexpr const char* kKinds[] = {"Local", "Socket", "Nccl"};
  return kKinds[static_cast<int>(group.communicator)] + std::to_string(group.world);
}

class WorldTest : public ::testing::TestWithParam<Group> {
 protected:
  void SetUp() override {
    const Golden golden("micro");
    const auto harness = ModelHarness::Create(Ranks(golden.dir));
    if (!harness.ok()) GTEST_SKIP() << harness.status();
  }

  static bool on_cuda() { return GetParam().device == DeviceKind::kCuda; }

  // One rank on the same device.
  static HarnessOptions Alone(const std::string& dir) {
    return {.dir = dir, .device = GetParam().device, .max_tokens = 1280};
  }
  static HarnessOptions Ranks(const std::string& dir) {
    HarnessOptions options = Alone(dir);
    options.communicator = GetParam().communicator;
    options.world = GetParam().world;
    return options;
  }

  // How far a value of the forward pass can be off between two orders of summation, as a share of the norm
  // that it is part of: every rounding is off by a unit at most, and they add up like a random walk over all
  // of the longest path. On a CPU each term of a sum is one; on a GPU those of the seven activations that a
  // layer writes outweigh all others.
  static double RelativeError(const ModelConfig& config) {
    constexpr double kSpread = 4;
    const double layers = config.num_hidden_layers;
    if (on_cuda()) return kSpread * 0x1p-9 * std::sqrt(7 * layers);
    const double terms =
        2.0 * config.hidden_size + config.num_attention_heads * config.head_dim + config.intermediate_size;
    return kSpread * kFloatUnit * std::sqrt(layers * terms);
  }
};

struct Result {
  StepOutput output;
  std::vector<float> keys;  // [tokens, index dim]
};

constexpr int kChunk = 500, kGenerated = 60;

Result RunCase(const HarnessOptions& options, const Golden& golden) {
  auto harness = MakeHarness(options);
  Result run{.output = RunInChunks(*harness, golden, kChunk, kGenerated), .keys = {}};
  run.keys = harness->IndexKeys(0, static_cast<int>(golden.tokens.size()));
  return run;
}

double Norm(const float* values, int count) {
  double sum = 0;
  for (int i = 0; i < count; ++i) sum += static_cast<double>(values[i]) * values[i];
  return std::sqrt(sum);
}

double Score(const float* query, const float* key, int dim) {
  double sum = 0;
  for (int i = 0; i < dim; ++i) sum += static_cast<double>(query[i]) * key[i];
  return sum;
}

// How many of the selected positions are the same. Others may differ only where their score lies within
// rounding of the k-th: both sides' scores are off by at most bound = relative error x |query| x |key|.
size_t ExpectSameIndex(const Result& actual, const Result& expected, const Golden& golden, int dim,
                       double relative_error) {
  size_t same = 0;
  for (size_t row = 0; row < golden.rows.size(); ++row) {
    const std::vector<int32_t>&ours = actual.output.positions[row], &theirs = expected.output.positions[row];
    EXPECT_EQ(ours.size(), theirs.size()) << "row " << row;
    const float* query = expected.output.queries.data() + row * dim;
    const auto score = [&](int32_t position) {
      return Score(query, expected.keys.data() + int64_t{position} * dim, dim);
    };
    double kth = INFINITY;
    for (const int32_t position : theirs) kth = std::min(kth, score(position));
    std::vector<int32_t> differing;
    std::set_symmetric_difference(ours.begin(), ours.end(), theirs.begin(), theirs.end(),
                                  std::back_inserter(differing));
    same += theirs.size() - differing.size() / 2;
    for (const int32_t position : differing) {
      const float* key = expected.keys.data() + int64_t{position} * dim;
      const double bound = 2 * relative_error * Norm(query, dim) * Norm(key, dim);
      EXPECT_LE(std::abs(score(position) - kth), bound) << "row " << row << " position " << position;
    }
  }
  return same;
}

// Of every row's logits, by which the log-probability of the token that comes next differs.
double LargestLogprobDifference(const StepOutput& actual, const StepOutput& expected, const Golden& golden) {
  const size_t vocab = expected.logits.size() / golden.rows.size();
  const auto logprob = [vocab](const StepOutput& output, size_t row, int32_t id) {
    const float* logits = output.logits.data() + row * vocab;
    double sum = 0;
    for (size_t i = 0; i < vocab; ++i) sum += std::exp(static_cast<double>(logits[i]) - logits[id]);
    return -std::log(sum);
  };
  double largest = 0;
  for (size_t row = 0; row < golden.rows.size(); ++row) {
    const auto next = static_cast<size_t>(golden.rows[row]) + 1;
    if (next >= golden.tokens.size()) continue;
    const int32_t id = golden.tokens[next];
    largest = std::max(largest, std::abs(logprob(actual, row, id) - logprob(expected, row, id)));
  }
  return largest;
}

class WorldGoldenTest : public WorldTest {
 protected:
  // Against one rank, on the same tokens.
  void ExpectParity(const Golden& golden, const HarnessOptions& options, const Result& alone,
                    const ModelConfig& config) {
    const Result run = RunCase(options, golden);
    const double error = RelativeError(config);
    ExpectLogits(run.output.logits, alone.output.logits, error);
    size_t selected = 0;
    for (const auto& positions : alone.output.positions) selected += positions.size();
    const size_t same = ExpectSameIndex(run, alone, golden, config.index_head_dim, error);
    EXPECT_GE(static_cast<double>(same), 0.99 * static_cast<double>(selected));
    const double difference = LargestLogprobDifference(run.output, alone.output, golden);
    EXPECT_LE(difference, on_cuda() ? kCudaLogprobTolerance : kCpuLogprobTolerance);
    std::printf("%zu of %zu selected positions are the same, log-probabilities differ by up to %.2g\n", same,
                selected, difference);
  }

  // In nats.
  static constexpr double kCpuLogprobTolerance = 1e-4;
  static constexpr double kCudaLogprobTolerance = 0.15;
};

TEST_P(WorldGoldenTest, IndexAndLogprobsAgreeOnTheSameTokens) {
  for (const char* name : {"micro", "micro_gqa", "tiny"}) {
    SCOPED_TRACE(name);
    const Golden golden(name);
    const Result alone = RunCase(Alone(golden.dir), golden);
    const ModelConfig config = MakeHarness(Alone(golden.dir))->config();
    HarnessOptions options = Ranks(golden.dir);
    ExpectParity(golden, options, alone, config);
    options.min_tiled_tokens = 1;
    ExpectParity(golden, options, alone, config);
  }
}

// A row's index does not depend on who computes it, nor on the rows beside it.
TEST_P(WorldGoldenTest, RanksThatIndexByRowsSelectTheSame) {
  for (const char* name : {"micro", "micro_gqa", "tiny"}) {
    SCOPED_TRACE(name);
    const Golden golden(name);
    HarnessOptions options = Ranks(golden.dir);
    const StepOutput expected = RunInChunks(*MakeHarness(options), golden, kChunk, kGenerated);
    options.index_by_rows = true;
    const StepOutput actual = RunInChunks(*MakeHarness(options), golden, kChunk, kGenerated);
    EXPECT_EQ(actual.positions, expected.positions);
    EXPECT_TRUE(SameBits(actual.logits, expected.logits));
  }
}

// Invariant I5: on a CPU a row's bits do not depend on the tile that it runs in.
TEST_P(WorldGoldenTest, TiledPromptsKeepTheirBits) {
  if (on_cuda()) GTEST_SKIP() << "a library multiplies prompt rows as suits their number";
  for (const char* name : {"micro", "micro_gqa", "tiny"}) {
    SCOPED_TRACE(name);
    const Golden golden(name);
    HarnessOptions options = Ranks(golden.dir);
    const StepOutput expected = RunInChunks(*MakeHarness(options), golden, kChunk, kGenerated);
    options.min_tiled_tokens = 1;
    const StepOutput actual = RunInChunks(*MakeHarness(options), golden, kChunk, kGenerated);
    EXPECT_EQ(actual.positions, expected.positions);
    EXPECT_TRUE(SameBits(actual.logits, expected.logits));
  }
}

// Two steps of three sequences; the first tile of rows ends inside the second of them.
std::vector<float> RunCrowd(const HarnessOptions& options, const Golden& golden) {
  auto harness = MakeHarness(options);
  std::vector<float> logits;
  const auto piece = [&](int32_t slot, int32_t start, int32_t count, std::vector<int32_t> outputs) {
    const auto begin = golden.tokens.begin() + start;
    return Piece{.slot = slot, .start = start, .ids = {begin, begin + count}, .outputs = std::move(outputs)};
  };
  Piece drawn = piece(2, 5, 1, {0});
  drawn.generated = true;
  for (const auto& pieces :
       {std::vector{piece(0, 0, 150, {149}), piece(1, 0, 250, {110, 249}), piece(2, 0, 5, {})},
        std::vector{piece(0, 150, 150, {3}), piece(1, 250, 150, {110, 149}), drawn}}) {
    const auto output = harness->Run(pieces);
    YOIO_CHECK(output.ok()) << output.status().ToString();
    logits.insert(logits.end(), output->logits.begin(), output->logits.end());
  }
  return logits;
}

TEST_P(WorldGoldenTest, TilesMayDivideASequence) {
  if (on_cuda()) GTEST_SKIP() << "a library multiplies prompt rows as suits their number";
  for (const char* name : {"micro", "micro_gqa"}) {
    SCOPED_TRACE(name);
    const Golden golden(name);
    HarnessOptions options = Ranks(golden.dir);
    const std::vector<float> expected = RunCrowd(options, golden);
    options.min_tiled_tokens = 1;
    EXPECT_TRUE(SameBits(RunCrowd(options, golden), expected));
  }
}

INSTANTIATE_TEST_SUITE_P(Groups, WorldGoldenTest, ::testing::ValuesIn(kGroups),
                         [](const auto& info) { return GroupName(info.param); });

class WorldTextTest : public WorldTest {};

TEST_P(WorldTextTest, GreedyTextIsTheSameButForNearTies) {
  constexpr int kDocuments = 3, kTokens = 12, kLines = 160;
  const float near_tie = on_cuda() ? 0.25f : 1e-3f;  // nats
  const Documents documents;
  const auto tokenizer = Tokenizer::FromFile(YOIO_SOURCE_DIR "/models/yoio-tiny/tokenizer.json");
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  const std::string dir = YOIO_SOURCE_DIR "/models/yoio-tiny";
  const auto fit = [](HarnessOptions options) {
    options.max_step_tokens = 1024;
    options.max_tokens = 4096;
    options.min_tiled_tokens = 512;
    return options;
  };
  const auto alone = MakeHarness(fit(Alone(dir))), ranks = MakeHarness(fit(Ranks(dir)));
  int flips = 0;
  for (int number = 0; number < kDocuments; ++number) {
    const auto prompt = (*tokenizer)->Encode(documents.Make(number, kLines));
    ASSERT_TRUE(prompt.ok()) << prompt.status();
    ASSERT_GT(prompt->size(), size_t{3} * alone->config().index_topk);
    const Continuation expected = Continue(*alone, *prompt, kTokens),
                       actual = Continue(*ranks, *prompt, kTokens);
    const auto [theirs, ours] = std::mismatch(expected.ids.begin(), expected.ids.end(), actual.ids.begin());
    if (theirs == expected.ids.end()) continue;
    const auto place = theirs - expected.ids.begin();
    const float gap = Gap(expected.logits[place], *theirs, *ours);
    std::printf("document %d (%zu tokens), token %td: alone '%s', ranks '%s', log-probabilities %.4f apart\n",
                number, prompt->size(), place, (*tokenizer)->Decode({*theirs}, false).c_str(),
                (*tokenizer)->Decode({*ours}, false).c_str(), gap);
    EXPECT_LT(gap, near_tie);
    ++flips;
  }
  std::printf("%d of %d continuations of %d tokens are the same\n", kDocuments - flips, kDocuments, kTokens);
}

INSTANTIATE_TEST_SUITE_P(Groups, WorldTextTest, ::testing::ValuesIn(kGroups),
                         [](const auto& info) { return GroupName(info.param); });

}  // namespace
}  // namespace yoio::test
