#include "engine/comm/local_communicator.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "base/check.h"
#include "engine/comm/local_group.h"

namespace yoio {
namespace {

constexpr size_t kFloatsPerLine = 16;  // floats in 64 bytes: slices do not share cache lines
constexpr size_t kTile = 512;          // floats summed at a time: 2 KiB, so that sums stay in the first cache

void CopyUnlessSame(std::byte* to, const std::byte* from, size_t bytes) {
  if (to != from && bytes > 0) std::memcpy(to, from, bytes);
}

class LocalCommunicator final : public Communicator {
 public:
  LocalCommunicator(std::shared_ptr<LocalGroup> group, int rank) : group_(std::move(group)), rank_(rank) {}

  int rank() const override { return rank_; }
  int world() const override { return group_->world(); }

  absl::Status Broadcast(std::span<std::byte> data, int root, kernels::Stream&) override {
    YOIO_CHECK(root >= 0 && root < world()) << "root " << root << " of a world of " << world();
    const CollectiveCall call{Collective::kBroadcast, data.size(), root};
    return group_->Run(rank_, call, data.data(),
                       [&] { CopyUnlessSame(data.data(), group_->data(root), data.size()); });
  }

  absl::Status AllReduce(void* data, size_t count, kernels::DType type, kernels::Stream&) override {
    YOIO_CHECK(type == kernels::DType::kF32 || world() == 1) << "threads of one host add floats";
    const CollectiveCall call{Collective::kAllReduce, count * SizeOf(type), 0};
    return group_->Run(rank_, call, static_cast<std::byte*>(data), [&] { ReduceSlice(count); });
  }

  absl::Status AllGather(std::span<const std::byte> mine, std::span<std::byte> all,
                         kernels::Stream&) override {
    YOIO_CHECK_EQ(all.size(), mine.size() * world());
    const CollectiveCall call{Collective::kAllGather, mine.size(), 0};
    return group_->Run(rank_, call, const_cast<std::byte*>(mine.data()), [&] {
      for (int rank = 0; rank < world(); ++rank) {
        CopyUnlessSame(all.data() + rank * mine.size(), group_->data(rank), mine.size());
      }
    });
  }

  absl::Status health() override { return group_->health(); }
  void Abort(absl::Status status) override { group_->Abort(std::move(status)); }

 private:
  // Sums this rank's slice of [0, count) over all ranks and writes it back to all of them. Nobody else
  // touches the slice, so one rendezvous before and one after are enough. A rank reads `count` floats and
  // writes `count`; (world - 1) / world of them cross between cores.
  void ReduceSlice(size_t count) {
    const size_t world_size = group_->world();
    if (world_size == 1) return;
    const size_t per_rank = (count + world_size - 1) / world_size;
    const size_t slice = (per_rank + kFloatsPerLine - 1) / kFloatsPerLine * kFloatsPerLine;
    const size_t end = std::min(count, (rank_ + 1) * slice);
    alignas(64) std::array<float, kTile> sum;
    for (size_t begin = rank_ * slice; begin < end; begin += kTile) {
      const size_t tile = std::min(kTile, end - begin);
      std::memcpy(sum.data(), Floats(0) + begin, tile * sizeof(float));
      for (size_t rank = 1; rank < world_size; ++rank) {
        const float* addend = Floats(rank) + begin;
        for (size_t i = 0; i < tile; ++i) sum[i] += addend[i];
      }
      for (size_t rank = 0; rank < world_size; ++rank) {
        std::memcpy(Floats(rank) + begin, sum.data(), tile * sizeof(float));
      }
    }
  }

  float* Floats(size_t rank) const { return reinterpret_cast<float*>(group_->data(rank)); }

  const std::shared_ptr<LocalGroup> group_;
  const int rank_;
};

}  // namespace

std::vector<std::unique_ptr<Communicator>> MakeLocalCommunicators(int world) {
  YOIO_CHECK_GE(world, 1);
  auto group = std::make_shared<LocalGroup>(world);
  std::vector<std::unique_ptr<Communicator>> handles;
  handles.reserve(world);
  for (int rank = 0; rank < world; ++rank) {
    handles.push_back(std::make_unique<LocalCommunicator>(group, rank));
  }
  return handles;
}

}  // namespace yoio
