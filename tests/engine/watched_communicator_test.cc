// Communicators of a host that tell a watch what their ranks wait in.
#include <array>
#include <atomic>
#include <memory>
#include <span>
#include <thread>
#include <vector>

#include "base/status.h"
#include "engine/comm/communicator.h"
#include "gtest/gtest.h"
#include "kernels/backend.h"
#include "tests/support/spawn_ranks.h"

namespace yoio {
namespace {

class Log final : public CollectiveWatch {
 public:
  void Entered(Collective collective) override {
    entered.push_back(collective);
    now = collective;
  }
  void Left(Duration took) override {
    now = Collective::kNone;
    waited += took;
  }

  std::vector<Collective> entered;  // the rank's thread's
  Duration waited{};                // likewise
  std::atomic<Collective> now{Collective::kNone};
};

// Two threads.
class WatchedCommunicatorTest : public ::testing::Test {
 protected:
  static constexpr int kWorld = 2;

  void SetUp() override {
    backend_ = *kernels::MakeBackend(kernels::DeviceKind::kCpu, 0);
    const std::vector<kernels::Backend*> backends(kWorld, backend_.get());
    GroupOptions options = {.kind = CommunicatorKind::kLocal, .world = kWorld, .num_ranks = kWorld};
    for (Log& log : logs_) options.watches.push_back(&log);
    ranks_ = *MakeCommunicators(options, backends);
  }

  std::unique_ptr<kernels::Backend> backend_;
  std::array<Log, kWorld> logs_;
  std::vector<std::unique_ptr<Communicator>> ranks_;
};

TEST_F(WatchedCommunicatorTest, HandsOnAndTells) {
  EXPECT_EQ(ranks_[1]->rank(), 1);
  EXPECT_EQ(ranks_[1]->world(), kWorld);
  const absl::Status status = test::SpawnRanks(ranks_, [&](Communicator& comm) -> absl::Status {
    const auto stream = *backend_->NewStream(1);
    const float mine = static_cast<float>(1 + comm.rank());
    float sum = mine, told = mine;
    std::vector<float> all(kWorld);
    YOIO_RETURN_IF_ERROR(comm.AllReduce(&sum, 1, kernels::DType::kF32, *stream));
    YOIO_RETURN_IF_ERROR(comm.Broadcast(std::as_writable_bytes(std::span(&told, 1)), /*root=*/0, *stream));
    YOIO_RETURN_IF_ERROR(
        comm.AllGather(std::as_bytes(std::span(&mine, 1)), std::as_writable_bytes(std::span(all)), *stream));
    EXPECT_EQ(sum, 3);
    EXPECT_EQ(told, 1);
    EXPECT_EQ(all, (std::vector<float>{1, 2}));
    float x = 10, delta = mine;
    auto* const activation = reinterpret_cast<kernels::Activation*>(&delta);
    const kernels::ResidualRmsNormArgs norm = {.x = &x,
                                               .delta = activation,
                                               .weight = nullptr,
                                               .eps = 1e-6f,
                                               .num_rows = 1,
                                               .hidden = 1,
                                               .out = nullptr};
    YOIO_RETURN_IF_ERROR(comm.AllReduceResidualNorm(norm, activation, *backend_, *stream));
    EXPECT_EQ(x, 13);
    return absl::OkStatus();
  });
  EXPECT_EQ(status, absl::OkStatus());
  const std::vector<Collective> expected = {Collective::kAllReduce, Collective::kBroadcast,
                                            Collective::kAllGather, Collective::kAllReduce};
  for (const Log& log : logs_) {
    EXPECT_EQ(log.entered, expected);
    EXPECT_EQ(log.now.load(), Collective::kNone);
  }
}

TEST_F(WatchedCommunicatorTest, AWaitIsSeenAndMeasured) {
  constexpr Duration kPause = std::chrono::milliseconds(5);
  const absl::Status status = test::SpawnRanks(ranks_, [&](Communicator& comm) {
    const auto stream = *backend_->NewStream(1);
    if (comm.rank() == 0) {
      while (logs_[1].now.load() != Collective::kAllReduce) std::this_thread::yield();
      std::this_thread::sleep_for(kPause);
    }
    float value = 0;
    return comm.AllReduce(&value, 1, kernels::DType::kF32, *stream);
  });
  EXPECT_EQ(status, absl::OkStatus());
  EXPECT_GE(logs_[1].waited, kPause);
}

TEST_F(WatchedCommunicatorTest, AnAbortEndsWhatIsWatched) {
  const absl::Status reason = absl::UnavailableError("enough");
  const auto stream = *backend_->NewStream(1);
  ranks_[1]->Abort(reason);
  EXPECT_EQ(ranks_[0]->health(), reason);
  EXPECT_EQ(ranks_[1]->health(), reason);
  float value = 0;
  EXPECT_EQ(ranks_[1]->AllReduce(&value, 1, kernels::DType::kF32, *stream), reason);
  EXPECT_EQ(logs_[1].now.load(), Collective::kNone) << "left, though it failed";
}

}  // namespace
}  // namespace yoio
