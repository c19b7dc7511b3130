// A model with one poisoned embedding: what a NaN ends, and what it leaves alone.
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/checkpoint/safetensors.h"
#include "gtest/gtest.h"
#include "tests/engine/engine_harness.h"

namespace yoio {
namespace {

using test::ExpectAllReturned;
using test::ExpectSameTokens;
using test::Generate;
using test::IdsRequest;
using test::MakeEngine;
using test::MicroOptions;
using test::StreamOutput;
using test::Submit;

constexpr int32_t kPoison = 300;  // IdsRequest draws ids below 256
constexpr int64_t kRowBytes = 64 * 2;

// The golden model micro_gqa, whose embedding is not its output matrix, with NaN in the row of kPoison.
class EngineNanTest : public testing::TestWithParam<int> {
 protected:
  EngineNanTest() : dir_(absl::StrCat(testing::TempDir(), "/engine_nan_test_model.", getpid())) {
    namespace fs = std::filesystem;
    fs::remove_all(dir_);
    fs::copy(YOIO_SOURCE_DIR "/tests/golden/micro_gqa", dir_);
    const std::string path = dir_ + "/model.safetensors";
    std::ifstream in(path, std::ios::binary);
    std::string file((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
    const auto checkpoint = *Checkpoint::OpenFile(path);
    const auto row =
        checkpoint->Get("model.embed_tokens.weight")->bytes.subspan(kPoison * kRowBytes, kRowBytes);
    const size_t place = file.find(std::string_view(reinterpret_cast<const char*>(row.data()), row.size()));
    for (int64_t i = 0; i < kRowBytes; i += 2) file.replace(place + i, 2, "\xff\x7f");  // a bf16 NaN
    fs::remove(path);
    std::ofstream(path, std::ios::binary) << file;
  }
  ~EngineNanTest() override { std::filesystem::remove_all(dir_); }

  // A cache that the few requests of a test fill and use again and again.
  std::unique_ptr<Engine> Small() const {
    EngineOptions options = MicroOptions();
    options.model_dir = dir_;
    options.max_sequences = 3;
    options.max_model_len = 300;
    options.max_step_tokens = 64;
    options.pipeline_depth = GetParam();
    return MakeEngine(options);
  }

  static Request Poisoned(const std::string& id) {
    Request request = IdsRequest(id, 150, 50);
    std::get<std::vector<int32_t>>(request.prompt)[100] = kPoison;
    return request;
  }

  const std::string dir_;
};
INSTANTIATE_TEST_SUITE_P(Depth, EngineNanTest, testing::Values(1, 2));

TEST_P(EngineNanTest, EndsItsRequestAndNoOther) {
  const auto engine = Small();
  Request clean = IdsRequest("clean", 150, 100);
  clean.logprobs.output = true;
  const StreamOutput expected = Generate(*engine, clean);
  for (int round = 0; round < 4; ++round) {
    const auto beside = Submit(*engine, clean);
    const StreamOutput poisoned = Submit(*engine, Poisoned("poisoned"))->Wait();
    EXPECT_EQ(poisoned.end->code(), absl::StatusCode::kInternal);
    EXPECT_TRUE(poisoned.choices[0].tokens.empty());
    ExpectSameTokens(beside->Wait().choices[0].tokens, expected.choices[0].tokens);
    ExpectAllReturned(*engine);
    // Slots and blocks that hold NaN are used again.
    ExpectSameTokens(Generate(*engine, clean).choices[0].tokens, expected.choices[0].tokens);
  }
  EXPECT_TRUE(engine->health().ok());
}

TEST_P(EngineNanTest, EndsAScore) {
  const auto engine = Small();
  Request score = Poisoned("score");
  score.max_tokens.reset();
  score.score_only = true;
  const StreamOutput output = Submit(*engine, score)->Wait();
  EXPECT_EQ(output.end->code(), absl::StatusCode::kInternal);
  EXPECT_LE(output.scores.size(), 100u) << "nothing after the poison is reported";
  ExpectAllReturned(*engine);
}

}  // namespace
}  // namespace yoio
