// Ranks whose ends of steps come late: what follows waits its turn, and the answer is the same.
#include <atomic>
#include <limits>
#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/create.h"
#include "gtest/gtest.h"
#include "tests/engine/engine_harness.h"
#include "tests/engine/failing_backend.h"

namespace yoio {
namespace {

using test::ExpectSameTokens;
using test::FailingBackend;
using test::Generate;
using test::IdsRequest;
using test::MicroOptions;
using test::StreamOutput;

// Says of every event only at the fiftieth look that it has passed. Of one rank.
class LateBackend final : public FailingBackend {
 public:
  explicit LateBackend(std::unique_ptr<kernels::Backend> inner) : FailingBackend(std::move(inner), never_) {}

  absl::StatusOr<bool> Passed(kernels::Event& event) override {
    if (++looks_ % 50 != 0) return false;
    return FailingBackend::Passed(event);
  }

 private:
  std::atomic<int> never_{std::numeric_limits<int>::max()};
  int looks_ = 0;
};

std::unique_ptr<kernels::Backend> Cpu() { return *kernels::MakeBackend(kernels::DeviceKind::kCpu, 0); }

struct Shape {
  int world;
  int depth;
  int late_rank;
};

class EngineLateRankTest : public testing::TestWithParam<Shape> {
 protected:
  StreamOutput Ask(int late_rank) {
    EngineOptions options = MicroOptions();
    options.tensor_parallel_size = GetParam().world;
    options.pipeline_depth = GetParam().depth;
    std::vector<std::unique_ptr<kernels::Backend>> backends;
    for (int rank = 0; rank < GetParam().world; ++rank) {
      backends.push_back(rank == late_rank ? std::make_unique<LateBackend>(Cpu()) : Cpu());
    }
    auto engine = CreateEngine(options, Devices(kernels::DeviceKind::kCpu, std::move(backends)));
    EXPECT_TRUE(engine.ok()) << engine.status();
    return Generate(**engine, IdsRequest("request", 70, 60));
  }
};
INSTANTIATE_TEST_SUITE_P(Shapes, EngineLateRankTest,
                         testing::Values(Shape{2, 1, 1}, Shape{2, 2, 1}, Shape{2, 2, 0}, Shape{4, 3, 2}),
                         [](const auto& info) {
                           return absl::StrCat("World", info.param.world, "Depth", info.param.depth, "Rank",
                                               info.param.late_rank);
                         });

TEST_P(EngineLateRankTest, ChangesNothing) {
  const StreamOutput expected = Ask(/*late_rank=*/-1), output = Ask(GetParam().late_rank);
  ASSERT_TRUE(output.end.has_value() && output.end->ok());
  ASSERT_EQ(output.choices[0].tokens.size(), 60u);
  ExpectSameTokens(output.choices[0].tokens, expected.choices[0].tokens);
}

}  // namespace
}  // namespace yoio
