// One suite for every kind of communicator: what a collective promises, for any world size.
#include "engine/comm/communicator.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <random>
#include <string>
#include <thread>
#include <tuple>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "gtest/gtest.h"
#include "kernels/backend.h"
#include "tests/support/spawn_ranks.h"

namespace yoio {
namespace {

using Ranks = std::vector<std::unique_ptr<Communicator>>;

// The value that `rank` brings at index i of round `round`: exact in float, different everywhere.
float Input(int rank, int round, size_t i) {
  return static_cast<float>((rank + 1) * 1000 + round % 97) + static_cast<float>(i % 251) / 256.0f;
}

std::vector<float> Inputs(int rank, int round, size_t count) {
  std::vector<float> values(count);
  for (size_t i = 0; i < count; ++i) values[i] = Input(rank, round, i);
  return values;
}

// The ranks of these tests are the CPU's, whose activations are floats.
kernels::Activation* Activations(std::vector<float>& values) {
  return reinterpret_cast<kernels::Activation*>(values.data());
}

// What AllReduce promises: added in rank order.
std::vector<float> Sum(int world, int round, size_t count) {
  std::vector<float> sum = Inputs(0, round, count);
  for (int rank = 1; rank < world; ++rank) {
    for (size_t i = 0; i < count; ++i) sum[i] += Input(rank, round, i);
  }
  return sum;
}

absl::Status Same(const std::vector<float>& actual, const std::vector<float>& expected) {
  if (actual.size() == expected.size() &&
      std::memcmp(actual.data(), expected.data(), actual.size() * sizeof(float)) == 0) {
    return absl::OkStatus();
  }
  const auto [a, e] = std::mismatch(actual.begin(), actual.end(), expected.begin(), expected.end());
  return absl::DataLossError(
      absl::StrCat("index ", a - actual.begin(), " of ", actual.size(), ": ", *a, " instead of ", *e));
}

class CommunicatorTest : public ::testing::TestWithParam<std::tuple<CommunicatorKind, int>> {
 protected:
  void SetUp() override {
    backend_ = *kernels::MakeBackend(kernels::DeviceKind::kCpu, 0);
    for (int rank = 0; rank < world(); ++rank) streams_.push_back(*backend_->NewStream(1));
    ranks_ = Make();
  }

  Ranks Make() const {
    const std::vector<kernels::Backend*> backends(world(), backend_.get());
    return *MakeCommunicators({.kind = std::get<0>(GetParam()), .world = world(), .num_ranks = world()},
                              backends);
  }

  int world() const { return std::get<1>(GetParam()); }
  kernels::Stream& stream(const Communicator& comm) { return *streams_[comm.rank()]; }

  absl::Status AllReduce(Communicator& comm, std::vector<float>& data) {
    return comm.AllReduce(data.data(), data.size(), kernels::DType::kF32, stream(comm));
  }
  absl::Status Broadcast(Communicator& comm, std::vector<float>& data, int root) {
    return comm.Broadcast(std::as_writable_bytes(std::span(data)), root, stream(comm));
  }
  absl::Status AllGather(Communicator& comm, const std::vector<float>& mine, std::vector<float>& all) {
    return comm.AllGather(std::as_bytes(std::span(mine)), std::as_writable_bytes(std::span(all)),
                          stream(comm));
  }

  // One collective of a kind, size and root drawn from `random`, the same on all ranks.
  absl::Status RandomRound(Communicator& comm, std::mt19937& random, int round) {
    const size_t count = random() % (random() % 8 == 0 ? 20000 : 200);
    const int root = static_cast<int>(random() % world());
    std::vector<float> data = Inputs(comm.rank(), round, count);
    switch (random() % 3) {
      case 0:
        YOIO_RETURN_IF_ERROR(AllReduce(comm, data));
        return Same(data, Sum(world(), round, count));
      case 1:
        YOIO_RETURN_IF_ERROR(Broadcast(comm, data, root));
        return Same(data, Inputs(root, round, count));
    }
    std::vector<float> all(count * world());
    YOIO_RETURN_IF_ERROR(AllGather(comm, data, all));
    std::vector<float> expected;
    for (int rank = 0; rank < world(); ++rank) {
      const std::vector<float> part = Inputs(rank, round, count);
      expected.insert(expected.end(), part.begin(), part.end());
    }
    return Same(all, expected);
  }

  std::unique_ptr<kernels::Backend> backend_;
  std::vector<std::unique_ptr<kernels::Stream>> streams_;
  Ranks ranks_;
};

TEST_P(CommunicatorTest, NamesItsRankAndWorld) {
  ASSERT_EQ(ranks_.size(), static_cast<size_t>(world()));
  for (int rank = 0; rank < world(); ++rank) {
    EXPECT_EQ(ranks_[rank]->rank(), rank);
    EXPECT_EQ(ranks_[rank]->world(), world());
  }
}

TEST_P(CommunicatorTest, AllReduceAddsInRankOrderForEverySize) {
  const absl::Status status = test::SpawnRanks(ranks_, [&](Communicator& comm) {
    for (size_t count : {0, 1, 2, 7, 15, 16, 17, 31, 33, 127, 513, 1536, 4099}) {
      std::vector<float> data = Inputs(comm.rank(), 0, count);
      YOIO_RETURN_IF_ERROR(AllReduce(comm, data));
      YOIO_RETURN_IF_ERROR(Same(data, Sum(world(), 0, count)));
    }
    return absl::OkStatus();
  });
  EXPECT_EQ(status, absl::OkStatus());
}

// Any other order of these additions gives another result: 1e8 absorbs a 1, and -1e8 comes last.
TEST_P(CommunicatorTest, AllReduceDoesNotReorderAdditions) {
  std::vector<std::vector<float>> results(world());
  const absl::Status status = test::SpawnRanks(ranks_, [&](Communicator& comm) {
    const bool last = comm.rank() == world() - 1 && world() > 1;
    std::vector<float> data(77, last ? -1e8f : comm.rank() == 0 ? 1e8f : 1.0f);
    YOIO_RETURN_IF_ERROR(AllReduce(comm, data));
    results[comm.rank()] = data;
    return absl::OkStatus();
  });
  ASSERT_EQ(status, absl::OkStatus());
  for (const std::vector<float>& result : results) {
    EXPECT_EQ(result, std::vector<float>(77, world() == 1 ? 1e8f : 0.0f));
  }
}

TEST_P(CommunicatorTest, BroadcastCopiesTheBytesOfTheRoot) {
  for (int root = 0; root < world(); ++root) {
    const absl::Status status = test::SpawnRanks(ranks_, [&](Communicator& comm) {
      std::string data(1021, static_cast<char>('a' + comm.rank()));
      YOIO_RETURN_IF_ERROR(
          comm.Broadcast(std::as_writable_bytes(std::span(data.data(), data.size())), root, stream(comm)));
      const bool same = data == std::string(1021, static_cast<char>('a' + root));
      return same ? absl::OkStatus() : absl::DataLossError(data);
    });
    EXPECT_EQ(status, absl::OkStatus()) << "root " << root;
  }
}

TEST_P(CommunicatorTest, AllGatherMayWorkInPlace) {
  const absl::Status status = test::SpawnRanks(ranks_, [&](Communicator& comm) {
    constexpr size_t kCount = 37;
    std::vector<float> all(kCount * world(), -1.0f);
    const std::span<float> mine(all.data() + comm.rank() * kCount, kCount);
    std::fill(mine.begin(), mine.end(), static_cast<float>(comm.rank()));
    YOIO_RETURN_IF_ERROR(
        comm.AllGather(std::as_bytes(mine), std::as_writable_bytes(std::span(all)), stream(comm)));
    std::vector<float> expected(all.size());
    for (size_t i = 0; i < expected.size(); ++i) expected[i] = static_cast<float>(i / kCount);
    return Same(all, expected);
  });
  EXPECT_EQ(status, absl::OkStatus());
}

TEST_P(CommunicatorTest, ManyRoundsOfRandomKindAndSize) {
  const absl::Status status = test::SpawnRanks(ranks_, [&](Communicator& comm) {
    std::mt19937 random(7);
    for (int round = 0; round < 300; ++round) {
      YOIO_RETURN_IF_ERROR(RandomRound(comm, random, round));
    }
    return absl::OkStatus();
  });
  EXPECT_EQ(status, absl::OkStatus());
}

// Ranks that come late make the others sleep; the buffers die as soon as a call has returned.
TEST_P(CommunicatorTest, WaitsForLateRanks) {
  const absl::Status status = test::SpawnRanks(ranks_, [&](Communicator& comm) {
    for (int round = 0; round < 2 * world(); ++round) {
      if (round % world() == comm.rank()) std::this_thread::sleep_for(std::chrono::milliseconds(2));
      std::vector<float> data = Inputs(comm.rank(), round, 100);
      YOIO_RETURN_IF_ERROR(AllReduce(comm, data));
      YOIO_RETURN_IF_ERROR(Same(data, Sum(world(), round, 100)));
    }
    return absl::OkStatus();
  });
  EXPECT_EQ(status, absl::OkStatus());
}

TEST_P(CommunicatorTest, AllReduceResidualNormIsTheSumThenTheNorm) {
  const std::vector<float> weight = {1.0f, 2.0f, 0.5f, -1.0f};
  std::vector<float> sum = Sum(world(), 0, 8);
  std::vector<float> expected_x(8), expected_out(8);
  for (int i = 0; i < 8; ++i) expected_x[i] = static_cast<float>(i);
  backend_->ResidualRmsNorm({.x = expected_x.data(),
                             .delta = Activations(sum),
                             .weight = weight.data(),
                             .eps = 1e-5f,
                             .num_rows = 2,
                             .hidden = 4,
                             .out = Activations(expected_out)},
                            *streams_[0]);
  const absl::Status status = test::SpawnRanks(ranks_, [&](Communicator& comm) {
    std::vector<float> x(8), out(8), delta = Inputs(comm.rank(), 0, 8);
    for (int i = 0; i < 8; ++i) x[i] = static_cast<float>(i);
    const kernels::ResidualRmsNormArgs args = {.x = x.data(),
                                               .delta = Activations(delta),
                                               .weight = weight.data(),
                                               .eps = 1e-5f,
                                               .num_rows = 2,
                                               .hidden = 4,
                                               .out = Activations(out)};
    YOIO_RETURN_IF_ERROR(comm.AllReduceResidualNorm(args, Activations(delta), *backend_, stream(comm)));
    YOIO_RETURN_IF_ERROR(Same(delta, sum));
    YOIO_RETURN_IF_ERROR(Same(x, expected_x));
    return Same(out, expected_out);
  });
  EXPECT_EQ(status, absl::OkStatus());
}

TEST_P(CommunicatorTest, AbortWakesWaitingRanks) {
  if (world() == 1) return;  // a single rank never waits
  std::atomic<int> waiting{0};
  std::thread killer([&] {
    while (waiting.load() < world() - 1) std::this_thread::yield();
    std::this_thread::sleep_for(std::chrono::milliseconds(2));  // long enough for some to sleep
    ranks_[0]->Abort(absl::UnavailableError("pulled the plug"));
  });
  std::vector<absl::Status> statuses(world());
  const absl::Status first = test::SpawnRanks(ranks_, [&](Communicator& comm) {
    if (comm.rank() == world() - 1) return absl::OkStatus();  // never comes
    std::vector<float> data(1000, 1.0f);
    waiting.fetch_add(1);
    statuses[comm.rank()] = AllReduce(comm, data);
    return absl::OkStatus();
  });
  killer.join();
  EXPECT_EQ(first, absl::OkStatus());
  for (int rank = 0; rank < world() - 1; ++rank) {
    EXPECT_EQ(statuses[rank], absl::UnavailableError("pulled the plug")) << "rank " << rank;
  }
}

TEST_P(CommunicatorTest, TheFirstAbortWinsAndLasts) {
  ranks_.back()->Abort(absl::UnavailableError("first"));
  ranks_.front()->Abort(absl::InternalError("second"));
  std::vector<std::vector<absl::Status>> statuses(world());
  const absl::Status first = test::SpawnRanks(ranks_, [&](Communicator& comm) {
    std::vector<float> data(10), all(10 * world());
    statuses[comm.rank()] = {AllReduce(comm, data), Broadcast(comm, data, 0), AllGather(comm, data, all)};
    return absl::OkStatus();
  });
  EXPECT_EQ(first, absl::OkStatus());
  for (const std::vector<absl::Status>& of_rank : statuses) {
    EXPECT_EQ(of_rank, std::vector<absl::Status>(3, absl::UnavailableError("first")));
  }
}

// An abort at any moment: every rank gets it, and no rank touches memory of one that has left (which a
// sanitizer sees, because each round has buffers of its own).
TEST_P(CommunicatorTest, AbortInTheMiddleOfTraffic) {
  for (int repeat = 0; repeat < 20; ++repeat) {
    const Ranks ranks = Make();
    std::atomic<bool> running{false};
    std::thread killer([&] {
      while (!running.load()) std::this_thread::yield();
      std::this_thread::sleep_for(std::chrono::microseconds(50 * repeat));
      ranks[0]->Abort(absl::UnavailableError("pulled the plug"));
    });
    const absl::Status status = test::SpawnRanks(ranks, [&](Communicator& comm) {
      std::mt19937 random(repeat);
      running.store(true);
      for (int round = 0;; ++round) YOIO_RETURN_IF_ERROR(RandomRound(comm, random, round));
    });
    killer.join();
    EXPECT_EQ(status, absl::UnavailableError("pulled the plug"));
  }
}

TEST_P(CommunicatorTest, AFailureOfOneRankEndsTheOthers) {
  const absl::Status status = test::SpawnRanks(ranks_, [&](Communicator& comm) {
    if (comm.rank() == world() / 2) return absl::DataLossError("this rank gave up");
    std::vector<float> data(5);
    return AllReduce(comm, data);
  });
  EXPECT_EQ(status, absl::DataLossError("this rank gave up"));
}

using CommunicatorDeathTest = CommunicatorTest;

TEST_P(CommunicatorDeathTest, RanksThatDifferAreABug) {
  ::testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_DEATH(test::SpawnRanks(ranks_,
                                [&](Communicator& comm) {
                                  std::vector<float> data(comm.rank() == 0 ? 3 : 4);
                                  return AllReduce(comm, data);
                                })
                   .IgnoreError(),
               "AllReduce of (12|16) bytes");
}

std::string Name(const ::testing::TestParamInfo<std::tuple<CommunicatorKind, int>>& info) {
  return absl::StrCat("LocalWorld", std::get<1>(info.param));
}

const auto kAll =
    ::testing::Combine(::testing::Values(CommunicatorKind::kLocal), ::testing::Values(1, 2, 3, 4, 8));
INSTANTIATE_TEST_SUITE_P(All, CommunicatorTest, kAll, Name);
INSTANTIATE_TEST_SUITE_P(All, CommunicatorDeathTest,
                         ::testing::Combine(::testing::Values(CommunicatorKind::kLocal),
                                            ::testing::Values(2)),
                         Name);

TEST(MakeCommunicatorsTest, RefusesWorldSizesItCannotServe) {
  for (int world : {-1, 0, 9}) {
    const auto ranks = MakeCommunicators({.world = world, .num_ranks = world}, {});
    EXPECT_EQ(ranks.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_NE(ranks.status().message().find(absl::StrCat("size ", world, ": expected 1 to 8")),
              std::string::npos)
        << ranks.status();
  }
}

}  // namespace
}  // namespace yoio
