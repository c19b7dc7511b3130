// One suite for every kind of communicator: what a collective promises, for any world size.
//
// Every kind keeps the whole contract, an abort that wakes all ranks at once included. Kinds that work on
// host memory promise more: floats are added in rank order, and ranks that differ in what they call die with
// both calls' names. GPUs alone add bf16. See OnHost.
#include "engine/comm/communicator.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <tuple>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "gtest/gtest.h"
#include "kernels/backend.h"
#include "tests/engine/rank_group.h"

namespace yoio {
namespace {

using test::Rank;

bool OnHost(CommunicatorKind kind) { return kind != CommunicatorKind::kNccl; }

// The value that `rank` brings at index i of round `round`: exact in float, different everywhere.
float Input(int rank, int round, size_t i) {
  return static_cast<float>((rank + 1) * 1000 + round % 97) + static_cast<float>(i % 251) / 256.0f;
}

std::vector<float> Inputs(int rank, int round, size_t count) {
  std::vector<float> values(count);
  for (size_t i = 0; i < count; ++i) values[i] = Input(rank, round, i);
  return values;
}

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
  // A build without the kind and a machine with too few GPUs have nothing to test.
  void SetUp() override {
    absl::StatusOr<test::RankGroup> group = test::RankGroup::Create(kind(), world());
    if (!group.ok() && !on_host()) GTEST_SKIP() << group.status();
    ASSERT_TRUE(group.ok()) << group.status();
    group_.emplace(*std::move(group));
    const absl::Status met = group_->Meet();
    if (absl::IsUnimplemented(met) && !on_host()) GTEST_SKIP() << met;
    ASSERT_EQ(met, absl::OkStatus());
  }

  CommunicatorKind kind() const { return std::get<0>(GetParam()); }
  bool on_host() const { return OnHost(kind()); }
  int world() const { return std::get<1>(GetParam()); }
  test::RankGroup& group() { return *group_; }

  // One collective of a kind, size and root drawn from `random`, the same on all ranks.
  absl::Status RandomRound(Rank& rank, std::mt19937& random, int round) {
    const size_t count = random() % (random() % 8 == 0 ? 20000 : 200);
    const int root = static_cast<int>(random() % world());
    std::vector<float> data = Inputs(rank.rank(), round, count);
    switch (random() % 3) {
      case 0:
        YOIO_RETURN_IF_ERROR(rank.AllReduce(data));
        return Same(data, Sum(world(), round, count));
      case 1:
        YOIO_RETURN_IF_ERROR(rank.Broadcast(data, root));
        return Same(data, Inputs(root, round, count));
    }
    std::vector<float> all(count * world());
    YOIO_RETURN_IF_ERROR(rank.AllGather(data, all));
    std::vector<float> expected;
    for (int peer = 0; peer < world(); ++peer) {
      const std::vector<float> part = Inputs(peer, round, count);
      expected.insert(expected.end(), part.begin(), part.end());
    }
    return Same(all, expected);
  }

 private:
  std::optional<test::RankGroup> group_;
};

TEST_P(CommunicatorTest, NamesItsRankAndWorld) {
  ASSERT_EQ(group().handles().size(), static_cast<size_t>(world()));
  for (int rank = 0; rank < world(); ++rank) {
    EXPECT_EQ(group().handles()[rank]->rank(), rank);
    EXPECT_EQ(group().handles()[rank]->world(), world());
    EXPECT_EQ(group().handles()[rank]->health(), absl::OkStatus());
  }
}

TEST_P(CommunicatorTest, AllReduceAddsForEverySize) {
  const absl::Status status = group().Run([&](Rank& rank) {
    for (size_t count : {0, 1, 2, 7, 15, 16, 17, 31, 33, 127, 513, 1536, 4099, 30001}) {
      std::vector<float> data = Inputs(rank.rank(), 0, count);
      YOIO_RETURN_IF_ERROR(rank.AllReduce(data));
      YOIO_RETURN_IF_ERROR(Same(data, Sum(world(), 0, count)));
    }
    return absl::OkStatus();
  });
  EXPECT_EQ(status, absl::OkStatus());
}

// Integers up to 256 are exact in bf16.
TEST_P(CommunicatorTest, AllReduceAddsBFloat16) {
  if (on_host() && world() > 1) GTEST_SKIP() << "host communicators add floats alone";
  const absl::Status status = group().Run([&](Rank& rank) -> absl::Status {
    for (size_t count : {1, 8, 1000, 40000}) {
      std::vector<kernels::BFloat16> data(count);
      for (size_t i = 0; i < count; ++i) {
        data[i] = kernels::ToBFloat16(static_cast<float>(rank.rank() + i % 16));
      }
      YOIO_RETURN_IF_ERROR(rank.AllReduce(data));
      std::vector<float> sum(count), expected(count);
      for (size_t i = 0; i < count; ++i) {
        sum[i] = kernels::ToFloat(data[i]);
        expected[i] = static_cast<float>(world() * (world() - 1) / 2 + world() * (i % 16));
      }
      YOIO_RETURN_IF_ERROR(Same(sum, expected));
    }
    return absl::OkStatus();
  });
  EXPECT_EQ(status, absl::OkStatus());
}

// More than the buffers of a connection hold, both ways at once.
TEST_P(CommunicatorTest, LargeSumsDoNotWaitForEachOther) {
  constexpr size_t kCount = 900000;
  const absl::Status status = group().Run([&](Rank& rank) {
    std::vector<float> data = Inputs(rank.rank(), 0, kCount);
    YOIO_RETURN_IF_ERROR(rank.AllReduce(data));
    return Same(data, Sum(world(), 0, kCount));
  });
  EXPECT_EQ(status, absl::OkStatus());
}

// Any other order of these additions gives another result: 1e8 absorbs a 1, and -1e8 comes last.
TEST_P(CommunicatorTest, AllReduceDoesNotReorderAdditions) {
  if (!on_host()) GTEST_SKIP() << "a promise of host communicators";
  for (const size_t count : {77, 20011}) {
    const absl::Status status = group().Run([&](Rank& rank) {
      const bool last = rank.rank() == world() - 1 && world() > 1;
      std::vector<float> data(count, last ? -1e8f : rank.rank() == 0 ? 1e8f : 1.0f);
      YOIO_RETURN_IF_ERROR(rank.AllReduce(data));
      return Same(data, std::vector<float>(count, world() == 1 ? 1e8f : 0.0f));
    });
    EXPECT_EQ(status, absl::OkStatus());
  }
}

TEST_P(CommunicatorTest, BroadcastCopiesTheBytesOfTheRoot) {
  for (int root = 0; root < world(); ++root) {
    const absl::Status status = group().Run([&](Rank& rank) {
      std::vector<char> data(1021, static_cast<char>('a' + rank.rank()));
      YOIO_RETURN_IF_ERROR(rank.Broadcast(data, root));
      const bool same = data == std::vector<char>(1021, static_cast<char>('a' + root));
      return same ? absl::OkStatus() : absl::DataLossError(std::string(data.begin(), data.end()));
    });
    EXPECT_EQ(status, absl::OkStatus()) << "root " << root;
  }
}

TEST_P(CommunicatorTest, AllGatherMayWorkInPlace) {
  const absl::Status status = group().Run([&](Rank& rank) {
    constexpr size_t kCount = 37;
    const std::vector<float> mine(kCount, static_cast<float>(rank.rank()));
    std::vector<float> all(kCount * world(), -1.0f);
    YOIO_RETURN_IF_ERROR(rank.AllGather(mine, all, true));
    std::vector<float> expected(all.size());
    for (size_t i = 0; i < expected.size(); ++i) expected[i] = static_cast<float>(i / kCount);
    return Same(all, expected);
  });
  EXPECT_EQ(status, absl::OkStatus());
}

TEST_P(CommunicatorTest, ManyRoundsOfRandomKindAndSize) {
  const absl::Status status = group().Run([&](Rank& rank) {
    std::mt19937 random(7);
    for (int round = 0; round < 300; ++round) {
      YOIO_RETURN_IF_ERROR(RandomRound(rank, random, round));
    }
    return absl::OkStatus();
  });
  EXPECT_EQ(status, absl::OkStatus());
}

// Ranks that come late make the others sleep; the buffers die as soon as a call has returned.
TEST_P(CommunicatorTest, WaitsForLateRanks) {
  const absl::Status status = group().Run([&](Rank& rank) {
    for (int round = 0; round < 2 * world(); ++round) {
      if (round % world() == rank.rank()) std::this_thread::sleep_for(std::chrono::milliseconds(2));
      std::vector<float> data = Inputs(rank.rank(), round, 100);
      YOIO_RETURN_IF_ERROR(rank.AllReduce(data));
      YOIO_RETURN_IF_ERROR(Same(data, Sum(world(), round, 100)));
    }
    return absl::OkStatus();
  });
  EXPECT_EQ(status, absl::OkStatus());
}

// Small integers: they and their sums are exact in every activation type.
std::vector<float> Delta(int rank, size_t count) {
  std::vector<float> delta(count);
  for (size_t i = 0; i < count; ++i) delta[i] = static_cast<float>(rank + 1) - static_cast<float>(i % 5);
  return delta;
}

// What ResidualRmsNorm makes of `delta`, after `add` has made it the sum.
struct Normed {
  std::vector<float> x;
  std::vector<float> out;
};

template <typename T, typename Norm>
absl::StatusOr<Normed> ResidualNorm(Rank& rank, const std::vector<float>& delta, const Norm& norm) {
  constexpr int kRows = 3;
  const int hidden = static_cast<int>(delta.size()) / kRows;
  std::vector<float> x(delta.size()), weight(hidden);
  std::vector<T> halves(delta.size()), out(delta.size());
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i % 7) / 4.0f;
  for (int i = 0; i < hidden; ++i) weight[i] = static_cast<float>(i % 3) - 0.5f;
  for (size_t i = 0; i < delta.size(); ++i) halves[i] = test::FromFloat<T>(delta[i]);
  rank.FreeAll();
  auto* device_delta = reinterpret_cast<kernels::Activation*>(rank.Upload(halves));
  const kernels::ResidualRmsNormArgs args = {.x = rank.Upload(x),
                                             .delta = device_delta,
                                             .weight = rank.Upload(weight),
                                             .eps = 1e-5f,
                                             .num_rows = kRows,
                                             .hidden = hidden,
                                             .out = reinterpret_cast<kernels::Activation*>(rank.Upload(out))};
  YOIO_RETURN_IF_ERROR(norm(args, device_delta));
  YOIO_RETURN_IF_ERROR(rank.Download(args.x, x));
  YOIO_RETURN_IF_ERROR(rank.Download(reinterpret_cast<const T*>(args.out), out));
  return Normed{x, test::ToFloats(out)};
}

template <typename T>
absl::Status CheckAllReduceResidualNorm(Rank& rank, bool on_host) {
  constexpr size_t kCount = 3 * 512;
  std::vector<float> sum(kCount);
  for (int peer = 0; peer < rank.world(); ++peer) {
    const std::vector<float> delta = Delta(peer, kCount);
    for (size_t i = 0; i < kCount; ++i) sum[i] += delta[i];
  }
  YOIO_ASSIGN_OR_RETURN(const Normed expected, ResidualNorm<T>(rank, sum, [&](const auto& args, auto*) {
                          rank.backend().ResidualRmsNorm(args, rank.stream());
                          return absl::OkStatus();
                        }));
  YOIO_ASSIGN_OR_RETURN(const Normed actual,
                        ResidualNorm<T>(rank, Delta(rank.rank(), kCount), [&](const auto& args, auto* delta) {
                          return rank.comm().AllReduceResidualNorm(args, delta, rank.backend(),
                                                                   rank.stream());
                        }));
  YOIO_RETURN_IF_ERROR(Same(actual.x, expected.x));
  if (on_host) return Same(actual.out, expected.out);
  // A fused norm may add the squares in another order, which moves a result by one bf16 at most.
  for (size_t i = 0; i < kCount; ++i) {
    if (std::abs(actual.out[i] - expected.out[i]) > std::abs(expected.out[i]) / 128.0f) {
      return absl::DataLossError(absl::StrCat("index ", i, ": ", actual.out[i], " not ", expected.out[i]));
    }
  }
  return absl::OkStatus();
}

TEST_P(CommunicatorTest, AllReduceResidualNormIsTheSumThenTheNorm) {
  const absl::Status status = group().Run([&](Rank& rank) {
    return rank.backend().activation_type() == kernels::DType::kF32
               ? CheckAllReduceResidualNorm<float>(rank, on_host())
               : CheckAllReduceResidualNorm<kernels::BFloat16>(rank, on_host());
  });
  EXPECT_EQ(status, absl::OkStatus());
}

TEST_P(CommunicatorTest, AbortWakesWaitingRanks) {
  if (world() == 1) GTEST_SKIP() << "a single rank never waits";
  std::atomic<int> waiting{0};
  std::thread killer([&] {
    while (waiting.load() < world() - 1) std::this_thread::yield();
    std::this_thread::sleep_for(std::chrono::milliseconds(2));  // long enough for some to sleep
    group().handles()[0]->Abort(absl::UnavailableError("pulled the plug"));
  });
  std::vector<absl::Status> statuses(world());
  const absl::Status first = group().Run([&](Rank& rank) {
    if (rank.rank() == world() - 1) return absl::OkStatus();  // never comes
    std::vector<float> data(1000, 1.0f);
    waiting.fetch_add(1);
    statuses[rank.rank()] = rank.AllReduce(data);
    return absl::OkStatus();
  });
  killer.join();
  EXPECT_EQ(first, absl::OkStatus());
  for (int rank = 0; rank < world() - 1; ++rank) {
    EXPECT_EQ(statuses[rank], absl::UnavailableError("pulled the plug")) << "rank " << rank;
  }
}

TEST_P(CommunicatorTest, TheFirstAbortWinsAndLasts) {
  group().handles().back()->Abort(absl::UnavailableError("first"));
  group().handles().front()->Abort(absl::InternalError("second"));
  std::vector<std::vector<absl::Status>> statuses(world());
  const absl::Status first = group().Run([&](Rank& rank) {
    std::vector<float> data(10), all(10 * world());
    statuses[rank.rank()] = {rank.AllReduce(data), rank.Broadcast(data, 0), rank.AllGather(data, all),
                             rank.comm().health()};
    return absl::OkStatus();
  });
  EXPECT_EQ(first, absl::OkStatus());
  for (const std::vector<absl::Status>& of_rank : statuses) {
    EXPECT_EQ(of_rank, std::vector<absl::Status>(4, absl::UnavailableError("first")));
  }
}

// An abort at any moment: every rank gets it, and no rank touches memory of one that has left (which a
// sanitizer sees, because on a host each round has buffers of its own).
TEST_P(CommunicatorTest, AbortInTheMiddleOfTraffic) {
  const int repeats = on_host() ? 20 : 3;  // GPUs take long to meet
  for (int repeat = 0; repeat < repeats; ++repeat) {
    ASSERT_EQ(group().Meet(), absl::OkStatus());
    std::atomic<bool> running{false};
    std::thread killer([&] {
      while (!running.load()) std::this_thread::yield();
      std::this_thread::sleep_for(std::chrono::microseconds(50 * repeat));
      group().handles()[0]->Abort(absl::UnavailableError("pulled the plug"));
    });
    std::vector<absl::Status> statuses(world());
    const absl::Status first = group().Run([&](Rank& rank) {
      std::mt19937 random(repeat);
      running.store(true);
      absl::Status& status = statuses[rank.rank()];
      for (int round = 0; status.ok(); ++round) status = RandomRound(rank, random, round);
      return status;
    });
    killer.join();
    EXPECT_EQ(first, absl::UnavailableError("pulled the plug"));
    EXPECT_EQ(statuses, std::vector<absl::Status>(world(), first));
  }
}

TEST_P(CommunicatorTest, AFailureOfOneRankEndsTheOthers) {
  const absl::Status status = group().Run([&](Rank& rank) {
    if (rank.rank() == world() / 2) return absl::DataLossError("this rank gave up");
    std::vector<float> data(5);
    return rank.AllReduce(data);
  });
  EXPECT_EQ(status, absl::DataLossError("this rank gave up"));
}

using CommunicatorDeathTest = CommunicatorTest;

TEST_P(CommunicatorDeathTest, RanksThatDifferAreABug) {
  ::testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_DEATH(group()
                   .Run([&](Rank& rank) {
                     std::vector<float> data(rank.rank() == 0 ? 3 : 4);
                     return rank.AllReduce(data);
                   })
                   .IgnoreError(),
               "AllReduce of (12|16) bytes, root 0.*; AllReduce of (12|16) bytes, root 0");
}

std::string Name(const ::testing::TestParamInfo<std::tuple<CommunicatorKind, int>>& info) {
  constexpr const char* kNames[] = {"Local", "Socket", "Nccl"};
  return absl::StrCat(kNames[static_cast<int>(std::get<0>(info.param))], "World", std::get<1>(info.param));
}

const auto kHostKinds = ::testing::Values(CommunicatorKind::kLocal, CommunicatorKind::kSocket);
const auto kAllKinds =
    ::testing::Values(CommunicatorKind::kLocal, CommunicatorKind::kSocket, CommunicatorKind::kNccl);
INSTANTIATE_TEST_SUITE_P(All, CommunicatorTest,
                         ::testing::Combine(kAllKinds, ::testing::Values(1, 2, 3, 4, 8)), Name);
INSTANTIATE_TEST_SUITE_P(All, CommunicatorDeathTest, ::testing::Combine(kHostKinds, ::testing::Values(2)),
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
