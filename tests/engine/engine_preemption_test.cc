// An engine whose cache is too small for all that it runs: sequences give way, come back, and say what they
// say alone.
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "tests/engine/engine_harness.h"

namespace yoio {
namespace {

using test::Call;
using test::ExpectAllReturned;
using test::ExpectSameTokens;
using test::Generate;
using test::IdsRequest;
using test::MakeEngine;
using test::MicroOptions;
using test::StreamOutput;
using test::Submit;

constexpr int kRequests = 8;

// Of the micro model on rank 0: two window layers and a memory store of 4 heads of 16, index keys of 16.
constexpr int64_t RingBytes(int world) { return 2 * 128 * (2 * 4 * 16 / world) * 4; }
constexpr int64_t BlockBytes(int world) { return 64 * (2 * 4 * 16 / world + 16) * 4; }

// Prompts of a block and a half, outputs that outgrow the ring; half of the requests have penalties.
Request Long(int number) {
  Request request = IdsRequest(absl::StrCat("request", number), 80 + 7 * number, 180, 50 + number);
  request.temperature = 0.9f;
  request.seed = number;
  request.logprobs = {.output = true, .prompt = false, .top_n = 2};
  if (number % 2 == 0) request.frequency_penalty = 0.5f;
  return request;
}

struct Shape {
  const char* name;
  int64_t swap_bytes;
  int world;
  int depth;
  bool prefix_cache;
};

class EnginePreemptionTest : public testing::TestWithParam<Shape> {
 protected:
  // Two of the requests fit as a whole, and a little more.
  static EngineOptions Small() {
    EngineOptions options = MicroOptions();
    options.max_sequences = kRequests;
    options.max_model_len = 320;
    const int world = GetParam().world;
    options.kv_cache_bytes = kRequests * RingBytes(world) + 11 * BlockBytes(world);
    options.swap_bytes = GetParam().swap_bytes;
    options.tensor_parallel_size = world;
    options.pipeline_depth = GetParam().depth;
    options.prefix_cache = GetParam().prefix_cache;
    return options;
  }
};

TEST_P(EnginePreemptionTest, WhoeverGivesWaySaysWhatItSaysAlone) {
  EngineOptions large = MicroOptions();
  large.tensor_parallel_size = GetParam().world;
  large.prefix_cache = false;
  const auto alone = MakeEngine(large);
  std::vector<StreamOutput> expected;
  for (int number = 0; number < kRequests; ++number) expected.push_back(Generate(*alone, Long(number)));

  const auto engine = MakeEngine(Small());
  std::vector<std::shared_ptr<Call>> calls;
  for (int number = 0; number < kRequests; ++number) calls.push_back(Submit(*engine, Long(number)));
  int preemptions = 0;
  for (int number = 0; number < kRequests; ++number) {
    SCOPED_TRACE(number);
    const StreamOutput output = calls[number]->Wait();
    ASSERT_TRUE(output.end.has_value() && output.end->ok());
    ExpectSameTokens(output.choices[0].tokens, expected[number].choices[0].tokens);
    preemptions += output.summary->timing.preemptions;
  }
  EXPECT_GT(preemptions, 0) << "the cache was large enough";
  ExpectAllReturned(*engine);
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, EnginePreemptionTest,
    testing::Values(Shape{"ComputedAgain", 0, 1, 1, false}, Shape{"ComputedAgainDepth2", 0, 1, 2, false},
                    Shape{"Swapped", 8 << 20, 1, 1, false}, Shape{"SwappedDepth2", 8 << 20, 1, 2, false},
                    Shape{"ComputedAgainWorld2", 0, 2, 1, false},
                    Shape{"SwappedWorld2", 8 << 20, 2, 1, false},
                    Shape{"ComputedAgainWithPrefixCache", 0, 1, 2, true},
                    Shape{"SwappedWithPrefixCache", 8 << 20, 1, 2, true},
                    // One ring and a few blocks on the host: some are swapped, others not.
                    Shape{"Both", RingBytes(1) + 4 * BlockBytes(1), 1, 2, false}),
    [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace yoio
