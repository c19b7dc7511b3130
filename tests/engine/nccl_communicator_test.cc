// What NCCL communicators promise beyond the suite of every kind: the reduction over peer memory, captured
// graphs, ranks in processes of their own, and ends.
#include "engine/comm/nccl_communicator.h"

#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "gtest/gtest.h"
#include "kernels/cuda/device_info.h"
#include "kernels/dtype.h"
#include "tests/engine/nccl_reduction.h"
#include "tests/support/random.h"
#include "tests/support/spawn_ranks.h"

namespace yoio {
namespace {

using kernels::BFloat16;
using kernels::Buffer;
using test::Check;
using test::Gpu;
using test::kEps;
using test::kHalfUnit;
using test::Outcome;
using test::Reduce;
using test::Reduction;
using test::Shape;
using Ranks = std::vector<std::unique_ptr<Communicator>>;

constexpr const char* kTicket = "YOIO_TEST_NCCL_TICKET";  // in the environment of a second process

int NumGpus() {
  const auto devices = kernels::cuda::ListDevices();
  return devices.ok() ? static_cast<int>(devices->size()) : 0;
}

// What one rank does in one process or in several: every collective. Rows that went by NCCL instead of over
// peer memory were rounded to bf16 and do not pass.
absl::Status Exercise(Communicator& comm, Gpu& gpu) {
  const int world = comm.world();
  for (int rows : {1, 2, 3, 31, 32, 64}) {
    const Reduction reduction({rows, 2560}, world, rows);
    YOIO_ASSIGN_OR_RETURN(const Outcome outcome, Reduce(reduction, comm, gpu));
    YOIO_RETURN_IF_ERROR(Check(reduction, outcome, 0));
  }
  const Buffer all = gpu.Upload(std::vector<float>(4 * world, static_cast<float>(comm.rank() + 1)));
  const std::span<std::byte> bytes(all.As<std::byte>(), all.bytes());
  YOIO_RETURN_IF_ERROR(comm.AllGather(bytes.subspan(comm.rank() * 16, 16), bytes, gpu.stream()));
  YOIO_RETURN_IF_ERROR(comm.AllReduce(all.data(), 4 * world, kernels::DType::kF32, gpu.stream()));
  YOIO_RETURN_IF_ERROR(comm.Broadcast(bytes, world - 1, gpu.stream()));
  const std::vector<float> values = gpu.Download<float>(all);
  for (int i = 0; i < 4 * world; ++i) {
    if (values[i] != static_cast<float>((i / 4 + 1) * world)) {
      return absl::DataLossError(absl::StrCat("gathered and summed, at ", i, ": ", values[i]));
    }
  }
  return absl::OkStatus();
}

class NcclTest : public ::testing::TestWithParam<int> {
 protected:
  void SetUp() override {
    if (NumGpus() < world()) GTEST_SKIP() << NumGpus() << " GPUs: " << world() << " ranks need one each";
    Make();
  }

  void Make() {
    ranks_.clear();
    backends_.clear();
    owned_.clear();
    for (int device = 0; device < world(); ++device) {
      owned_.push_back(*kernels::MakeBackend(kernels::DeviceKind::kCuda, device));
      backends_.push_back(owned_.back().get());
    }
    const auto rendezvous = MakeRendezvous(CommunicatorKind::kNccl, "");
    ASSERT_EQ(rendezvous.status(), absl::OkStatus());
    auto ranks = MakeCommunicators({.kind = CommunicatorKind::kNccl,
                                    .world = world(),
                                    .num_ranks = world(),
                                    .ticket = (*rendezvous)->ticket()},
                                   backends_);
    ASSERT_EQ(ranks.status(), absl::OkStatus());
    ranks_ = *std::move(ranks);
  }

  int world() const { return GetParam(); }

  // Runs body(communicator, its GPU) on a thread a rank.
  template <typename Body>
  absl::Status OnRanks(Body body) {
    return test::SpawnRanks(ranks_, [&](Communicator& comm) {
      Gpu gpu(*backends_[comm.rank()]);
      return body(comm, gpu);
    });
  }

  std::vector<std::unique_ptr<kernels::Backend>> owned_;
  std::vector<kernels::Backend*> backends_;
  Ranks ranks_;
};

TEST_P(NcclTest, CollectivesOfOneProcess) { EXPECT_EQ(OnRanks(Exercise), absl::OkStatus()); }

TEST_P(NcclTest, TheTimeInCollectivesIsMeasured) {
  if (world() == 1) GTEST_SKIP() << "one rank waits for nobody";
  constexpr auto kLate = std::chrono::milliseconds(20);
  const absl::Status status = OnRanks([&](Communicator& comm, Gpu& gpu) {
    const Buffer clock = gpu.Upload(std::vector<kernels::WaitClock>{{.since = 0, .waited = 0}});
    comm.MeasureWaits(clock.As<kernels::WaitClock>());
    const Buffer data = gpu.Upload(std::vector<float>(4 * world()));
    const std::span<std::byte> bytes(data.As<std::byte>(), data.bytes());
    const Reduction reduction({2, 4096}, world(), /*seed=*/1);
    const int late = world() - 1;
    std::chrono::nanoseconds before{};
    for (int collective = 0; collective < 4; ++collective) {
      if (comm.rank() == late) std::this_thread::sleep_for(kLate);
      if (collective == 0) YOIO_RETURN_IF_ERROR(comm.Broadcast(bytes, late, gpu.stream()));
      if (collective == 1) {
        YOIO_RETURN_IF_ERROR(comm.AllReduce(data.data(), 4, kernels::DType::kF32, gpu.stream()));
      }
      if (collective == 2) {
        YOIO_RETURN_IF_ERROR(comm.AllGather(bytes.subspan(comm.rank() * 16, 16), bytes, gpu.stream()));
      }
      if (collective == 3) YOIO_RETURN_IF_ERROR(Reduce(reduction, comm, gpu).status());
      YOIO_RETURN_IF_ERROR(gpu.Synchronize());
      const std::chrono::nanoseconds waited(gpu.Download<kernels::WaitClock>(clock)[0].waited);
      const auto took = waited - std::exchange(before, waited);
      const bool plausible = comm.rank() == late ? took > took.zero() && took < kLate / 2 : took > kLate / 2;
      if (!plausible) {
        return absl::DataLossError(
            absl::StrCat("rank ", comm.rank(), ", collective ", collective, ": ", took.count(), " ns"));
      }
    }
    comm.MeasureWaits(nullptr);
    return absl::OkStatus();
  });
  EXPECT_EQ(status, absl::OkStatus());
}

TEST_P(NcclTest, FusedIsTheSumThenTheNormAndTheSameBitsOnAllRanks) {
  std::vector<Shape> shapes = {{1, 8},
                               {1, 4096},
                               {2, 72},
                               {7, 264, true},
                               {64, 8192},
                               {33, 2568, true},
                               {5, 4096, false, false},
                               {64, 8, true, false},
                               {32, 4096, true},
                               {73, 5120}};
  if (world() == 2) shapes.insert(shapes.end(), {{512, 4096}, {2100, 256}});
  for (const Shape& shape : shapes) {
    const Reduction reduction(shape, world(), shape.rows * 10007 + shape.hidden);
    std::vector<Outcome> outcomes(world());
    EXPECT_EQ(OnRanks([&](Communicator& comm, Gpu& gpu) {
                YOIO_ASSIGN_OR_RETURN(outcomes[comm.rank()], Reduce(reduction, comm, gpu));
                return Check(reduction, outcomes[comm.rank()], 0);
              }),
              absl::OkStatus())
        << shape.rows << " rows of " << shape.hidden;
    for (const Outcome& outcome : outcomes) {
      EXPECT_EQ(std::memcmp(outcome.x.data(), outcomes[0].x.data(), shape.count() * sizeof(float)), 0);
      if (!shape.has_norm) continue;
      EXPECT_EQ(std::memcmp(outcome.out.data(), outcomes[0].out.data(), shape.count() * sizeof(float)), 0);
    }
  }
}

// NCCL rounds each partial sum to bf16, and so does a call that is too large or too odd to be fused.
TEST_P(NcclTest, ComposedAgreesWithinTheRoundingOfBFloat16) {
  const absl::Status status = OnRanks([&](Communicator& comm, Gpu& gpu) {
    for (const Shape& shape : {Shape{2, 4096}, Shape{64, 2560, true}, Shape{65, 4096}, Shape{3, 100},
                               Shape{2, 8200}, Shape{200, 2560, false, false}, Shape{600, 2560}}) {
      const Reduction reduction(shape, world(), shape.rows);
      for (bool fused : {false, true}) {
        YOIO_ASSIGN_OR_RETURN(const Outcome outcome, Reduce(reduction, comm, gpu, fused));
        YOIO_RETURN_IF_ERROR(Check(reduction, outcome, world() * kHalfUnit));
      }
    }
    return absl::OkStatus();
  });
  EXPECT_EQ(status, absl::OkStatus());
}

// Thousands of replays of one graph, the data of each its own, ranks out of step: one row or one line of an
// older epoch would show, because all sums are exact.
TEST_P(NcclTest, ReplaysNeverMixTheirData) {
  constexpr int kReplays = 3000, kInputs = 7, kHidden = 512;
  const std::vector<int> rows = {64, 1, 1, 17};  // reductions of the graph, one behind the other
  const size_t count = size_t{64} * kHidden;
  const auto input = [](int rank, int i, size_t j) {
    return static_cast<float>((rank * 31 + i * 7 + static_cast<int>(j) * 3) % 17 - 8);
  };
  const absl::Status status = OnRanks([&](Communicator& comm, Gpu& gpu) {
    kernels::Backend& backend = gpu.backend();
    std::vector<Buffer> inputs;
    for (int i = 0; i < kInputs; ++i) {
      inputs.push_back(*backend.AllocateHost(count * sizeof(BFloat16)));
      for (size_t j = 0; j < count; ++j) {
        inputs[i].As<BFloat16>()[j] = kernels::ToBFloat16(input(comm.rank(), i, j));
      }
    }
    const Buffer delta = *backend.Allocate(count * sizeof(BFloat16));
    const Buffer x = gpu.Upload(std::vector<float>(count, 0.0f)), out = gpu.Upload(std::vector<float>(count));
    const Buffer weight = gpu.Upload(std::vector<float>(kHidden, 1.0f));
    backend.BeginCapture(gpu.stream());
    for (int num_rows : rows) {
      YOIO_RETURN_IF_ERROR(comm.AllReduceResidualNorm({.x = x.As<float>(),
                                                       .delta = delta.As<kernels::Activation>(),
                                                       .weight = weight.As<float>(),
                                                       .eps = kEps,
                                                       .num_rows = num_rows,
                                                       .hidden = kHidden,
                                                       .out = out.As<kernels::Activation>()},
                                                      delta.As<kernels::Activation>(), backend,
                                                      gpu.stream()));
    }
    YOIO_ASSIGN_OR_RETURN(const auto graph, backend.EndCapture(gpu.stream()));
    test::Random random(comm.rank());
    for (int replay = 0; replay < kReplays; ++replay) {
      backend.CopyToDevice(delta.data(), inputs[replay % kInputs].data(), delta.bytes(), gpu.stream());
      backend.Replay(*graph, gpu.stream());
      if (random.Below(50) == 0) std::this_thread::sleep_for(std::chrono::microseconds(random.Below(300)));
    }
    const std::vector<float> sums = gpu.Download<float>(x);
    for (size_t j = 0; j < count; ++j) {
      float expected = 0;
      const int times = 1 + (j < 17 * kHidden ? 1 : 0) + (j < kHidden ? 2 : 0);
      for (int replay = 0; replay < kReplays; ++replay) {
        for (int rank = 0; rank < comm.world(); ++rank) {
          expected += static_cast<float>(times) * input(rank, replay % kInputs, j);
        }
      }
      if (sums[j] != expected) return absl::DataLossError(absl::StrCat(j, ": ", sums[j], " not ", expected));
    }
    return absl::OkStatus();
  });
  EXPECT_EQ(status, absl::OkStatus());
}

TEST_P(NcclTest, CollectivesOfNcclAreCaptured) {
  const absl::Status status = OnRanks([&](Communicator& comm, Gpu& gpu) {
    const size_t count = 3 * comm.world();
    const Buffer data = gpu.Upload(std::vector<float>(count, 1.0f));
    const std::span<std::byte> bytes(data.As<std::byte>(), data.bytes());
    gpu.backend().BeginCapture(gpu.stream());
    YOIO_RETURN_IF_ERROR(comm.AllReduce(data.data(), count, kernels::DType::kF32, gpu.stream()));
    YOIO_RETURN_IF_ERROR(comm.Broadcast(bytes, 0, gpu.stream()));
    YOIO_RETURN_IF_ERROR(comm.AllGather(bytes.subspan(comm.rank() * 12, 12), bytes, gpu.stream()));
    YOIO_ASSIGN_OR_RETURN(const auto graph, gpu.backend().EndCapture(gpu.stream()));
    for (int replay = 0; replay < 3; ++replay) gpu.backend().Replay(*graph, gpu.stream());
    const float expected = std::pow(static_cast<float>(comm.world()), 3.0f);
    for (float value : gpu.Download<float>(data)) {
      if (value != expected) return absl::DataLossError(absl::StrCat(value, " instead of ", expected));
    }
    return absl::OkStatus();
  });
  EXPECT_EQ(status, absl::OkStatus());
}

// One rank never comes; the others wait on the device, in a fused reduction or in one of NCCL's.
TEST_P(NcclTest, AnAbortFreesDevicesThatWait) {
  for (const bool fused : {true, false}) {
    if (!fused) Make();
    std::atomic<int> waiting{0};
    std::thread killer([&] {
      while (waiting.load() < world() - 1) std::this_thread::yield();
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
      ranks_[0]->Abort(absl::UnavailableError("pulled the plug"));
    });
    const absl::Status status = OnRanks([&](Communicator& comm, Gpu& gpu) {
      const Reduction reduction({8, 4096}, world(), 1);
      if (comm.rank() == world() - 1) return absl::OkStatus();
      const Buffer data = gpu.Upload(std::vector<float>(1000));
      waiting.fetch_add(1);
      const TimePoint begin = Clock::now();
      if (fused) {
        Reduce(reduction, comm, gpu).IgnoreError();
      } else {
        comm.AllReduce(data.data(), 1000, kernels::DType::kF32, gpu.stream()).IgnoreError();
        gpu.Synchronize().IgnoreError();
      }
      if (Clock::now() - begin > std::chrono::seconds(1)) return absl::DeadlineExceededError("stuck");
      const absl::Status later = comm.AllReduce(data.data(), 1000, kernels::DType::kF32, gpu.stream());
      return later == absl::UnavailableError("pulled the plug") ? absl::OkStatus() : absl::DataLossError("");
    });
    killer.join();
    EXPECT_EQ(status, absl::OkStatus()) << (fused ? "fused" : "NCCL");
    EXPECT_EQ(ranks_[0]->health(), absl::UnavailableError("pulled the plug"));
  }
}

std::string Name(const ::testing::TestParamInfo<int>& info) { return absl::StrCat("World", info.param); }
INSTANTIATE_TEST_SUITE_P(Worlds, NcclTest, ::testing::Values(1, 2, 4, 8), Name);

// This process is `rank` of two, on the GPU of that number.
absl::Status OneOfTwo(int rank, const std::string& ticket, Duration timeout = std::chrono::minutes(1)) {
  YOIO_ASSIGN_OR_RETURN(const auto backend, kernels::MakeBackend(kernels::DeviceKind::kCuda, rank));
  kernels::Backend* const backends[] = {backend.get()};
  YOIO_ASSIGN_OR_RETURN(const Ranks ranks, MakeCommunicators({.kind = CommunicatorKind::kNccl,
                                                              .world = 2,
                                                              .first_rank = rank,
                                                              .num_ranks = 1,
                                                              .ticket = ticket,
                                                              .timeout = timeout},
                                                             backends));
  Gpu gpu(*backend);
  return Exercise(*ranks[0], gpu);
}

// The second process of the test below, which starts it.
TEST(NcclProcessesTest, SecondProcess) {
  const char* ticket = std::getenv(kTicket);
  if (ticket == nullptr) GTEST_SKIP() << "part of TwoProcesses";
  EXPECT_EQ(OneOfTwo(1, absl::HexStringToBytes(ticket)), absl::OkStatus());
}

TEST(NcclProcessesTest, TwoProcesses) {
  if (NumGpus() < 2) GTEST_SKIP() << NumGpus() << " GPUs: two processes need one each";
  const auto rendezvous = MakeRendezvous(CommunicatorKind::kNccl, "");
  ASSERT_EQ(rendezvous.status(), absl::OkStatus());
  ASSERT_EQ(setenv(kTicket, absl::BytesToHexString((*rendezvous)->ticket()).c_str(), 1), 0);
  std::string program = "/proc/self/exe", filter = "--gtest_filter=NcclProcessesTest.SecondProcess";
  char* const arguments[] = {program.data(), filter.data(), nullptr};
  pid_t child = 0;
  ASSERT_EQ(posix_spawn(&child, program.c_str(), nullptr, nullptr, arguments, environ), 0);
  unsetenv(kTicket);
  EXPECT_EQ(OneOfTwo(0, (*rendezvous)->ticket()), absl::OkStatus());
  int exit_status = -1;
  ASSERT_EQ(waitpid(child, &exit_status, 0), child);
  EXPECT_EQ(exit_status, 0);
}

TEST(NcclProcessesTest, ARankThatDoesNotComeIsNotAwaitedForEver) {
  if (NumGpus() < 1) GTEST_SKIP() << "no GPU";
  const auto rendezvous = MakeRendezvous(CommunicatorKind::kNccl, "");
  ASSERT_EQ(rendezvous.status(), absl::OkStatus());
  const TimePoint begin = Clock::now();
  const absl::Status status = OneOfTwo(0, (*rendezvous)->ticket(), std::chrono::seconds(1));
  EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded) << status;
  EXPECT_LT(Clock::now() - begin, std::chrono::seconds(10));
}

TEST(MakeNcclCommunicatorsTest, RefusesWhatIsNoGpuAndWhatIsNoTicket) {
  const auto cpu = *kernels::MakeBackend(kernels::DeviceKind::kCpu, 0);
  kernels::Backend* backends[] = {cpu.get()};
  EXPECT_EQ(MakeCommunicators({.kind = CommunicatorKind::kNccl}, backends).status().code(),
            absl::StatusCode::kInvalidArgument);
  if (NumGpus() < 1) GTEST_SKIP() << "no GPU to try a ticket on";
  EXPECT_EQ(OneOfTwo(0, "no ticket").code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace yoio
