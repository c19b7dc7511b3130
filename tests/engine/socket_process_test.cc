// Ranks of a `socket` group in several processes: what the others see when one ends, is killed or is stopped.
#include <signal.h>

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "base/status.h"
#include "engine/comm/communicator.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/child_process.h"
#include "tests/support/spawn_ranks.h"

namespace yoio {
namespace {

using Ranks = std::vector<std::unique_ptr<Communicator>>;
using test::ChildProcess;

// This process has the ranks 0 and 1, a child has rank 2. Over TCP, and over a Unix socket.
class SocketProcessTest : public ::testing::TestWithParam<std::string> {
 protected:
  static constexpr int kWorld = 3;

  void SetUp() override { backend_ = *kernels::MakeBackend(kernels::DeviceKind::kCpu, 0); }

  absl::StatusOr<Ranks> Join(int first_rank, int num_ranks, const std::string& ticket,
                             Rendezvous* rendezvous) {
    const std::vector<kernels::Backend*> backends(num_ranks, backend_.get());
    return MakeCommunicators({.kind = CommunicatorKind::kSocket,
                              .world = kWorld,
                              .first_rank = first_rank,
                              .num_ranks = num_ranks,
                              .ticket = ticket,
                              .rendezvous = rendezvous,
                              .host = GetParam()},
                             backends);
  }

  // The child joins and does `body` with rank 2; then the ranks of this process are there.
  void Meet(const std::function<int(Communicator&)>& body) {
    std::unique_ptr<Rendezvous> rendezvous = *MakeRendezvous(CommunicatorKind::kSocket, GetParam());
    child_ = std::make_unique<ChildProcess>([&] {
      const std::string ticket = rendezvous->ticket();
      rendezvous.reset();  // the parent's listener
      const absl::StatusOr<Ranks> ranks = Join(2, 1, ticket, nullptr);
      return ranks.ok() ? body(*(*ranks)[0]) : 100;
    });
    absl::StatusOr<Ranks> ranks = Join(0, 2, rendezvous->ticket(), rendezvous.get());
    ASSERT_TRUE(ranks.ok()) << ranks.status();
    ranks_ = *std::move(ranks);
  }

  // Sums of many sizes, each checked, until one fails.
  absl::Status Traffic(Communicator& comm) {
    const std::unique_ptr<kernels::Stream> stream = *backend_->NewStream(1);
    for (size_t round = 0;; ++round) {
      std::vector<float> data(1 + round * 7919 % 100000, static_cast<float>(comm.rank() + 1));
      YOIO_RETURN_IF_ERROR(comm.AllReduce(data.data(), data.size(), kernels::DType::kF32, *stream));
      if (data != std::vector<float>(data.size(), 6.0f)) return absl::DataLossError("a wrong sum");
    }
  }

  // Runs the traffic of both ranks here, and `meanwhile` beside it; what the two ended with.
  std::vector<absl::Status> RunTraffic(const std::function<void()>& meanwhile) {
    std::vector<absl::Status> statuses(2);
    std::vector<std::thread> threads;
    for (int rank = 0; rank < 2; ++rank) {
      threads.emplace_back([&, rank] {
        statuses[rank] = Traffic(*ranks_[rank]);
        ended_.fetch_add(1);
      });
    }
    meanwhile();
    const TimePoint begin = Clock::now();
    for (std::thread& thread : threads) thread.join();
    waited_ = Clock::now() - begin;
    return statuses;
  }

  std::unique_ptr<kernels::Backend> backend_;
  std::unique_ptr<ChildProcess> child_;
  Ranks ranks_;
  std::atomic<int> ended_{0};
  Duration waited_{};  // after `meanwhile`
};

void SleepMs(int ms) { std::this_thread::sleep_for(std::chrono::milliseconds(ms)); }

TEST_P(SocketProcessTest, AKilledProcessEndsTheOthersAtOnce) {
  Meet([&](Communicator& comm) { return static_cast<int>(Traffic(comm).code()); });
  const std::vector<absl::Status> statuses = RunTraffic([&] {
    SleepMs(30);
    EXPECT_EQ(ended_.load(), 0);
    child_->Signal(SIGKILL);
  });
  EXPECT_LT(waited_, std::chrono::seconds(1));
  EXPECT_EQ(statuses, std::vector<absl::Status>(2, absl::UnavailableError("rank 2 is gone")));
  EXPECT_EQ(child_->Wait(), 128 + SIGKILL);
}

TEST_P(SocketProcessTest, AStoppedProcessIsWaitedForUntilAnAbort) {
  Meet([&](Communicator& comm) { return static_cast<int>(Traffic(comm).code()); });
  const std::vector<absl::Status> statuses = RunTraffic([&] {
    SleepMs(10);
    child_->Signal(SIGSTOP);
    SleepMs(100);
    EXPECT_EQ(ended_.load(), 0);
    ranks_[0]->Abort(absl::UnavailableError("the watchdog barks"));
  });
  EXPECT_LT(waited_, std::chrono::seconds(1));
  EXPECT_EQ(statuses, std::vector<absl::Status>(2, absl::UnavailableError("the watchdog barks")));
}

TEST_P(SocketProcessTest, AnAbortIsHeardInTheOtherProcess) {
  Meet([&](Communicator& comm) {
    const absl::Status status = Traffic(comm);
    return status == absl::UnavailableError("rank 0 ended: INTERNAL: a device fell off") ? 0 : 1;
  });
  const std::vector<absl::Status> statuses = RunTraffic([&] {
    SleepMs(10);
    ranks_[0]->Abort(absl::InternalError("a device fell off"));
  });
  EXPECT_EQ(statuses, std::vector<absl::Status>(2, absl::InternalError("a device fell off")));
  EXPECT_EQ(child_->Wait(), 0);
}

TEST_P(SocketProcessTest, AnAbortOfTheOtherProcessIsHeardHere) {
  Meet([&](Communicator& comm) {
    std::thread killer([&] {
      SleepMs(10);
      comm.Abort(absl::DataLossError("out of luck"));
    });
    const absl::Status status = Traffic(comm);
    killer.join();
    return status == absl::DataLossError("out of luck") ? 0 : 1;
  });
  const std::vector<absl::Status> statuses = RunTraffic([] {});
  const absl::Status expected = absl::UnavailableError("rank 2 ended: DATA_LOSS: out of luck");
  EXPECT_EQ(statuses, std::vector<absl::Status>(2, expected));
  EXPECT_EQ(child_->Wait(), 0);
}

// Without a collective that would find out.
TEST_P(SocketProcessTest, HealthTellsWhoIsGone) {
  Meet([](Communicator&) {
    SleepMs(20);
    return 0;
  });
  EXPECT_EQ(child_->Wait(), 0);
  EXPECT_EQ(ranks_[1]->health(), absl::UnavailableError("rank 2 is gone"));
  EXPECT_EQ(ranks_[0]->health(), absl::UnavailableError("rank 2 is gone"));
}

std::string Name(const ::testing::TestParamInfo<std::string>& info) {
  return info.param.empty() ? "Unix" : "Tcp";
}

INSTANTIATE_TEST_SUITE_P(Hosts, SocketProcessTest, ::testing::Values("", "127.0.0.1"), Name);

}  // namespace
}  // namespace yoio
