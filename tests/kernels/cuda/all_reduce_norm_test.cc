// The reduction over peer memory, all ranks on one GPU: memory is memory, whoever's it is. That the ranks run
// beside each other is up to the device, so a rank that does not get to run is a failure, not a wait.
#include "kernels/cuda/all_reduce_norm.h"

#include <cuda_runtime_api.h>

#include <cmath>
#include <cstring>
#include <memory>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/clock.h"
#include "gtest/gtest.h"
#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/peer_memory.h"
#include "kernels/dtype.h"
#include "tests/support/compare.h"
#include "tests/support/random.h"

namespace yoio::kernels::cuda {
namespace {

constexpr int kMostRows = 8;  // of these tests: blocks of eight ranks must fit on the device together
constexpr int kMostHidden = 8192;
constexpr float kEps = 1e-5f;

class AllReduceNormTest : public ::testing::TestWithParam<int> {
 protected:
  struct Rank {
    std::unique_ptr<PeerMemory> inbox;
    std::unique_ptr<Stream> stream;
    Buffer x, delta, out;
    ReduceChannels channels{};

    CudaStream& cuda() { return static_cast<CudaStream&>(*stream); }
  };

  void SetUp() override {
    auto backend = CudaBackend::Create(0);
    if (!backend.ok()) GTEST_SKIP() << backend.status();
    backend_ = *std::move(backend);
    abort_ = *backend_->AllocateHost(sizeof(uint32_t));
    *abort_.As<uint32_t>() = 0;
    weight_ = *backend_->Allocate(kMostHidden * sizeof(float));
    ranks_.resize(world());
    for (Rank& rank : ranks_) {
      rank.inbox = *PeerMemory::Create(0, InboxBytes(world()), kInboxFill);
      rank.stream = *backend_->NewStream(1);
      rank.x = *backend_->Allocate(kMostRows * kMostHidden * sizeof(float));
      rank.delta = *backend_->Allocate(kMostRows * kMostHidden * sizeof(BFloat16));
      rank.out = *backend_->Allocate(kMostRows * kMostHidden * sizeof(BFloat16));
    }
    for (int rank = 0; rank < world(); ++rank) Connect(rank);
  }

  void Connect(int rank) {
    ReduceChannels& channels = ranks_[rank].channels;
    channels.rank = rank;
    channels.world = world();
    channels.inbox = static_cast<InboxLine*>(ranks_[rank].inbox->data());
    for (int hop = 1; hop < world(); ++hop) {
      channels.peers[hop - 1] = static_cast<InboxLine*>(ranks_[(rank + hop) % world()].inbox->data());
    }
    channels.abort = abort_.As<uint32_t>();
  }

  int world() const { return GetParam(); }

  template <typename T>
  void Upload(const Buffer& buffer, const std::vector<T>& values) {
    ASSERT_EQ(cudaMemcpy(buffer.data(), values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice),
              cudaSuccess);
  }
  template <typename T>
  std::vector<T> Download(const Buffer& buffer, size_t count) {
    std::vector<T> values(count);
    EXPECT_EQ(cudaMemcpy(values.data(), buffer.data(), count * sizeof(T), cudaMemcpyDeviceToHost),
              cudaSuccess);
    return values;
  }

  void Queue(int rank, int rows, int hidden, bool starts, bool has_norm) {
    Rank& mine = ranks_[rank];
    AllReduceResidualNorm({.x = mine.x.As<float>(),
                           .delta = mine.delta.As<Activation>(),
                           .weight = has_norm ? weight_.As<float>() : nullptr,
                           .eps = kEps,
                           .num_rows = rows,
                           .hidden = hidden,
                           .out = mine.out.As<Activation>(),
                           .starts = starts},
                          mine.channels, mine.cuda());
  }

  // False when a rank still waits after ten seconds; the abort frees it.
  bool Finish() {
    const TimePoint end = Clock::now() + std::chrono::seconds(10);
    bool in_time = true;
    for (Rank& rank : ranks_) {
      while (in_time && cudaStreamQuery(rank.cuda().get()) == cudaErrorNotReady) in_time = Clock::now() < end;
    }
    if (!in_time) *static_cast<volatile uint32_t*>(abort_.data()) = 1;
    for (Rank& rank : ranks_) EXPECT_EQ(backend_->Synchronize(*rank.stream), absl::OkStatus());
    return in_time;
  }

  std::unique_ptr<CudaBackend> backend_;
  Buffer abort_, weight_;
  std::vector<Rank> ranks_;
};

TEST_P(AllReduceNormTest, IsTheSumInRankOrderThenTheNorm) {
  test::Random random(world());
  for (int round = 0; round < 60; ++round) {
    const int rows = 1 + random.Below(kMostRows), hidden = 8 * (1 + random.Below(kMostHidden / 8));
    const bool starts = random.Below(4) == 0, has_norm = random.Below(4) != 0;
    const size_t count = static_cast<size_t>(rows) * hidden;
    const std::vector<float> x = random.Normals(count), weight = random.Normals(hidden);
    Upload(weight_, weight);
    std::vector<float> sum(count, 0.0f);
    for (Rank& rank : ranks_) {
      std::vector<BFloat16> delta(count);
      for (size_t i = 0; i < count; ++i) {
        delta[i] = ToBFloat16(random.Normal());
        sum[i] += ToFloat(delta[i]);
      }
      Upload(rank.delta, delta);
      Upload(rank.x, x);
      Upload(rank.out, std::vector<BFloat16>(count, ToBFloat16(-77.0f)));
    }
    for (int rank = 0; rank < world(); ++rank) Queue(rank, rows, hidden, starts, has_norm);
    ASSERT_TRUE(Finish());

    std::vector<float> expected_x(count);
    std::vector<double> expected_out(count), bound(count);
    for (int row = 0; row < rows; ++row) {
      double squares = 0;
      for (size_t i = size_t{1} * row * hidden; i < size_t{1} * (row + 1) * hidden; ++i) {
        expected_x[i] = (starts ? 0.0f : x[i]) + sum[i];
        squares += static_cast<double>(expected_x[i]) * expected_x[i];
      }
      const double scale = 1 / std::sqrt(squares / hidden + kEps);
      for (int j = 0; j < hidden; ++j) {
        const size_t i = size_t{1} * row * hidden + j;
        expected_out[i] = has_norm ? expected_x[i] * scale * weight[j] : -77.0;
        bound[i] = std::abs(expected_out[i]) * (0x1p-8 + 1e-5);
      }
    }
    for (Rank& rank : ranks_) {
      EXPECT_TRUE(test::SameBits<float>(Download<float>(rank.x, count), expected_x)) << "round " << round;
      std::vector<float> out;
      for (BFloat16 value : Download<BFloat16>(rank.out, count)) out.push_back(ToFloat(value));
      EXPECT_TRUE(test::AllNear(out, expected_out, bound)) << rows << " rows of " << hidden;
      EXPECT_EQ(std::memcmp(Download<BFloat16>(rank.out, count).data(),
                            Download<BFloat16>(ranks_[0].out, count).data(), count * sizeof(BFloat16)),
                0);
    }
  }
}

// The bits that stand for an empty inbox are a NaN, and a NaN arrives.
TEST_P(AllReduceNormTest, EveryNaNArrives) {
  constexpr int kHidden = 64;
  for (Rank& rank : ranks_) {
    std::vector<BFloat16> delta(kHidden, ToBFloat16(1.0f));
    if (&rank == &ranks_.back()) std::memset(delta.data() + 8, 0xff, 4 * sizeof(BFloat16));
    Upload(rank.delta, delta);
  }
  for (int rank = 0; rank < world(); ++rank) Queue(rank, 1, kHidden, /*starts=*/true, /*has_norm=*/false);
  ASSERT_TRUE(Finish());
  for (Rank& rank : ranks_) {
    const std::vector<float> x = Download<float>(rank.x, kHidden);
    for (int i = 0; i < kHidden; ++i) {
      const bool is_hit = i >= 8 && i < 12;
      EXPECT_TRUE(is_hit ? std::isnan(x[i]) : x[i] == static_cast<float>(world()))
          << "at " << i << ": " << x[i];
    }
  }
}

TEST_P(AllReduceNormTest, TheWaitForALateRankIsMeasured) {
  constexpr auto kLate = std::chrono::milliseconds(20);
  std::vector<Buffer> clocks;
  for (Rank& rank : ranks_) {
    clocks.push_back(*backend_->Allocate(sizeof(WaitClock)));
    Upload(clocks.back(), std::vector<WaitClock>{{.since = 0, .waited = 0}});
    rank.channels.clock = clocks.back().As<WaitClock>();
  }
  for (int rank = 1; rank < world(); ++rank) Queue(rank, 2, 64, /*starts=*/true, /*has_norm=*/false);
  std::this_thread::sleep_for(kLate);
  Queue(0, 2, 64, /*starts=*/true, /*has_norm=*/false);
  ASSERT_TRUE(Finish());
  for (int rank = 0; rank < world(); ++rank) {
    const auto waited = std::chrono::nanoseconds(Download<WaitClock>(clocks[rank], 1)[0].waited);
    if (rank == 0) {
      EXPECT_LT(waited, kLate / 2);
    } else {
      EXPECT_GT(waited, kLate / 2) << "rank " << rank;
      EXPECT_LT(waited, std::chrono::seconds(10)) << "rank " << rank;
    }
  }
}

TEST_P(AllReduceNormTest, AnAbortEndsTheWaitForARankThatDoesNotCome) {
  for (int rank = 1; rank < world(); ++rank) Queue(rank, 2, 4096, true, true);
  EXPECT_EQ(cudaStreamQuery(ranks_[1].cuda().get()), cudaErrorNotReady);
  *static_cast<volatile uint32_t*>(abort_.data()) = 1;
  const TimePoint begin = Clock::now();
  for (Rank& rank : ranks_) EXPECT_EQ(backend_->Synchronize(*rank.stream), absl::OkStatus());
  EXPECT_LT(Clock::now() - begin, std::chrono::seconds(1));
}

INSTANTIATE_TEST_SUITE_P(Worlds, AllReduceNormTest, ::testing::Values(2, 4, 8),
                         [](const auto& info) { return absl::StrCat("World", info.param); });

}  // namespace
}  // namespace yoio::kernels::cuda
