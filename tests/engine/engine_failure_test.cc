// A step that fails ends the engine: every stream ends, nothing hangs, nothing new is taken.
#include <atomic>
#include <limits>
#include <memory>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/create.h"
#include "engine/errors.h"
#include "gtest/gtest.h"
#include "tests/engine/engine_harness.h"
#include "tests/engine/failing_backend.h"

namespace yoio {
namespace {

using test::Call;
using test::FailingBackend;
using test::IdsRequest;
using test::MicroOptions;
using test::Refusal;
using test::StreamOutput;
using test::Submit;

constexpr int kNever = std::numeric_limits<int>::max();

struct Shape {
  int world;
  int depth;
};

class EngineFailureTest : public testing::TestWithParam<Shape> {
 protected:
  absl::StatusOr<std::unique_ptr<Engine>> Create() {
    EngineOptions options = MicroOptions();
    options.tensor_parallel_size = GetParam().world;
    options.pipeline_depth = GetParam().depth;
    options.max_sequences = 4;
    auto cpu = kernels::MakeBackend(kernels::DeviceKind::kCpu, 0);
    std::vector<std::unique_ptr<kernels::Backend>> backends;
    backends.push_back(std::make_unique<FailingBackend>(*std::move(cpu), countdown_));
    return CreateEngine(options, Devices(kernels::DeviceKind::kCpu, std::move(backends)));
  }

  std::atomic<int> countdown_{kNever};
};
INSTANTIATE_TEST_SUITE_P(Shapes, EngineFailureTest,
                         testing::Values(Shape{1, 1}, Shape{1, 2}, Shape{1, 3}, Shape{2, 1}, Shape{4, 2}),
                         [](const auto& info) {
                           return absl::StrCat("World", info.param.world, "Depth", info.param.depth);
                         });

TEST_P(EngineFailureTest, EveryStreamEndsUnavailable) {
  auto engine = Create();
  ASSERT_TRUE(engine.ok()) << engine.status();
  std::vector<std::shared_ptr<Call>> calls;
  for (int i = 0; i < 8; ++i) {
    Request request = IdsRequest(absl::StrCat(i), 30, 3000);  // four of them wait
    request.n = 1 + i % 2;
    calls.push_back(Submit(**engine, request, /*hold_after=*/10));
  }
  calls[0]->WaitForTokens(10);
  countdown_ = 3;
  for (const auto& call : calls) call->Resume();
  for (const auto& call : calls) {
    const StreamOutput output = call->Wait();
    EXPECT_EQ(output.end->code(), absl::StatusCode::kUnavailable);
    EXPECT_EQ(ReasonOf(*output.end), kReasonEngineFailed);
  }
  EXPECT_EQ(ReasonOf((*engine)->health()), kReasonEngineFailed);
  EXPECT_EQ((*engine)->health().message(), "the device has faulted");
  const absl::Status refused = Refusal(**engine, IdsRequest("late", 5, 5));
  EXPECT_EQ(ReasonOf(refused), kReasonEngineFailed);
  EXPECT_TRUE((*engine)->Drain(TimePoint::max()).ok()) << "nothing lives";
}

TEST_P(EngineFailureTest, AFailureBeforeTheFirstRequestIsCreatesError) {
  for (const int synchronisations : {0, GetParam().world}) {  // while loading, in the first step
    countdown_ = synchronisations;
    const auto engine = Create();
    EXPECT_EQ(engine.status(), absl::InternalError("the device has faulted"));
  }
}

}  // namespace
}  // namespace yoio
