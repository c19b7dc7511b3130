// How the ranks of a `socket` group meet, and who is refused.
#include "engine/comm/socket_join.h"

#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "base/status.h"
#include "engine/comm/socket_hello.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/spawn_ranks.h"

namespace yoio {
namespace {

using ::testing::HasSubstr;

constexpr Duration kShort = std::chrono::milliseconds(150);
constexpr Duration kLong = std::chrono::seconds(30);

class SocketJoinTest : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    backend_ = *kernels::MakeBackend(kernels::DeviceKind::kCpu, 0);
    absl::StatusOr<std::unique_ptr<Rendezvous>> rendezvous =
        MakeRendezvous(CommunicatorKind::kSocket, GetParam());
    if (!rendezvous.ok() && GetParam() == "::1") GTEST_SKIP() << "no IPv6: " << rendezvous.status();
    ASSERT_TRUE(rendezvous.ok()) << rendezvous.status();
    rendezvous_ = *std::move(rendezvous);
  }

  GroupOptions Rank(int rank, int world, Duration timeout) {
    return {.kind = CommunicatorKind::kSocket,
            .world = world,
            .first_rank = rank,
            .ticket = rendezvous_->ticket(),
            .rendezvous = rank == 0 ? rendezvous_.get() : nullptr,
            .host = GetParam(),
            .timeout = timeout};
  }

  // Each rank joins on its own, as from a process of its own.
  std::vector<absl::Status> Join(const std::vector<GroupOptions>& ranks) {
    std::vector<absl::Status> statuses(ranks.size());
    std::vector<std::thread> threads;
    for (size_t i = 0; i < ranks.size(); ++i) {
      threads.emplace_back([this, &options = ranks[i], &status = statuses[i]] {
        kernels::Backend* const backend = backend_.get();
        status = MakeCommunicators(options, {&backend, 1}).status();
      });
    }
    for (std::thread& thread : threads) thread.join();
    return statuses;
  }

  SocketAddress address() const { return {GetParam(), rendezvous_->ticket().substr(sizeof(SocketSecret))}; }

  // What rank `rank` says first.
  SocketHello Hello(int rank, int world) const {
    SocketHello hello;
    std::memcpy(hello.secret.data(), rendezvous_->ticket().data(), hello.secret.size());
    hello.rank = rank;
    hello.world = world;
    return hello;
  }

  Socket Say(const SocketHello& hello) const {
    Socket socket = *Connect(address(), Clock::now() + kLong);
    EXPECT_EQ(SendAll(socket, std::as_bytes(std::span(&hello, 1)), Clock::now() + kLong), absl::OkStatus());
    return socket;
  }

  std::unique_ptr<kernels::Backend> backend_;
  std::unique_ptr<Rendezvous> rendezvous_;
};

TEST_P(SocketJoinTest, RanksOfSeparateJoinsMeet) {
  EXPECT_EQ(Join({Rank(3, 4, kLong), Rank(0, 4, kLong), Rank(2, 4, kLong), Rank(1, 4, kLong)}),
            std::vector<absl::Status>(4));
}

TEST_P(SocketJoinTest, TheyExchangeBytes) {
  const auto ranks = test::MakeRanks(CommunicatorKind::kSocket, std::vector(4, backend_.get()), GetParam());
  ASSERT_TRUE(ranks.ok()) << ranks.status();
  const absl::Status status = test::SpawnRanks(*ranks, [&](Communicator& comm) {
    const auto stream = *backend_->NewStream(1);
    for (size_t count = 1; count < 300000; count = count * 3 + 1) {
      std::vector<float> data(count, static_cast<float>(comm.rank() + 1));
      YOIO_RETURN_IF_ERROR(comm.AllReduce(data.data(), count, kernels::DType::kF32, *stream));
      if (data != std::vector<float>(count, 10.0f)) return absl::DataLossError("a wrong sum");
    }
    return absl::OkStatus();
  });
  EXPECT_EQ(status, absl::OkStatus());
}

TEST_P(SocketJoinTest, RanksThatNeverComeAreNamed) {
  const absl::Status expected = absl::DeadlineExceededError("ranks 2, 4 have not come");
  EXPECT_EQ(Join({Rank(0, 5, kShort), Rank(1, 5, kLong), Rank(3, 5, kLong)}),
            std::vector<absl::Status>(3, expected));
}

TEST_P(SocketJoinTest, AnImpatientRankKnowsWhomItHasWaitedFor) {
  const std::vector<absl::Status> statuses = Join({Rank(0, 3, kLong), Rank(1, 3, kShort)});
  EXPECT_EQ(statuses[0], absl::UnavailableError("rank 1 is gone while rank 2 has not come"));
  EXPECT_EQ(statuses[1], absl::DeadlineExceededError("rank 2 has not come"));
}

TEST_P(SocketJoinTest, ARankZeroThatDoesNotAnswerIsNamed) {
  EXPECT_EQ(Join({Rank(1, 2, kShort)})[0], absl::DeadlineExceededError("rank 0 has not come"));
}

TEST_P(SocketJoinTest, AWrongSecretIsRefused) {
  GroupOptions stranger = Rank(1, 2, kLong);
  stranger.ticket[0] ^= 1;
  const std::vector<absl::Status> statuses = Join({Rank(0, 2, kShort), stranger});
  EXPECT_EQ(statuses[0],
            absl::DeadlineExceededError("rank 1 has not come; somebody was refused for a wrong secret"));
  EXPECT_EQ(statuses[1], absl::PermissionDeniedError("wrong secret: the ticket is of another group"));
}

TEST_P(SocketJoinTest, ASecondRankOfTheSameNumberEndsTheMeeting) {
  EXPECT_EQ(Join({Rank(0, 3, kLong), Rank(1, 3, kLong), Rank(1, 3, kLong)}),
            std::vector<absl::Status>(3, absl::AlreadyExistsError("there is a second rank 1")));
}

TEST_P(SocketJoinTest, AnotherWorldIsRefused) {
  const absl::Status expected =
      absl::InvalidArgumentError("rank 1 is of a world of 3, rank 0 of a world of 2");
  EXPECT_EQ(Join({Rank(0, 2, kLong), Rank(1, 3, kLong)}), std::vector<absl::Status>(2, expected));
}

TEST_P(SocketJoinTest, AnotherVersionIsRefused) {
  SocketHello hello = Hello(1, 2);
  hello.version = 7;
  const Socket old = Say(hello);
  const absl::Status expected = absl::FailedPreconditionError("rank 1 speaks version 7, rank 0 version 1");
  EXPECT_EQ(Join({Rank(0, 2, kLong)})[0], expected);
  EXPECT_EQ(ReceiveReply(old, 2, Clock::now() + kLong).status(), expected);
}

TEST_P(SocketJoinTest, ARankThatLeavesBeforeTheOthersComeEndsTheMeeting) {
  Say(Hello(1, 3));  // closes at once
  EXPECT_EQ(Join({Rank(0, 3, kLong)})[0], absl::UnavailableError("rank 1 is gone while rank 2 has not come"));
}

TEST_P(SocketJoinTest, StrangersThatSayNothingAndNonsenseDoNotKeepTheRanksOut) {
  std::vector<Socket> strangers;
  for (int i = 0; i < 100; ++i) strangers.push_back(*Connect(address(), Clock::now() + kLong));
  SocketHello nonsense = Hello(1, 2);
  nonsense.magic = 0;
  strangers.push_back(Say(nonsense));
  EXPECT_EQ(Join({Rank(0, 2, kLong), Rank(1, 2, kLong)}), std::vector<absl::Status>(2));
}

TEST_P(SocketJoinTest, NobodyListensAfterTheRanksHaveMet) {
  EXPECT_EQ(Join({Rank(0, 1, kLong)})[0], absl::OkStatus());
  const absl::Status late = Join({Rank(1, 2, kLong)})[0];
  EXPECT_EQ(late.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(late.message()), HasSubstr("cannot reach"));
}

TEST_P(SocketJoinTest, ATicketOfAnotherKindIsRefused) {
  for (const std::string& ticket : {std::string(), std::string(16, 'x'), std::string(128, 'x')}) {
    GroupOptions options = Rank(1, 2, kLong);
    options.ticket = ticket;
    EXPECT_EQ(Join({options})[0], absl::InvalidArgumentError("this is not the ticket of a socket group"));
  }
}

std::string Name(const ::testing::TestParamInfo<std::string>& info) {
  if (info.param.empty()) return "Unix";
  return info.param == "::1" ? "Tcp6" : "Tcp";
}

INSTANTIATE_TEST_SUITE_P(Hosts, SocketJoinTest, ::testing::Values("", "127.0.0.1", "::1"), Name);

TEST(SocketRendezvousTest, AHostThatIsNotOursIsAnError) {
  const auto rendezvous = MakeRendezvous(CommunicatorKind::kSocket, "192.0.2.1");  // for documentation
  EXPECT_EQ(rendezvous.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(rendezvous.status().message()), HasSubstr("192.0.2.1"));
}

TEST(SocketRendezvousTest, EveryTicketIsAnother) {
  const auto a = *MakeRendezvous(CommunicatorKind::kSocket, "");
  const auto b = *MakeRendezvous(CommunicatorKind::kSocket, "");
  EXPECT_NE(a->ticket().substr(0, 16), b->ticket().substr(0, 16));
}

}  // namespace
}  // namespace yoio
