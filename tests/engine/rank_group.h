// A group of ranks for tests, whatever its kind: each rank has a device, a thread and arrays on the device.
#ifndef YOIO_TESTS_ENGINE_RANK_GROUP_H_
#define YOIO_TESTS_ENGINE_RANK_GROUP_H_

#include <algorithm>
#include <cstddef>
#include <functional>
#include <latch>
#include <memory>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/check.h"
#include "base/status.h"
#include "engine/comm/communicator.h"
#include "kernels/backend.h"
#include "tests/support/spawn_ranks.h"

namespace yoio::test {

template <typename T>
T FromFloat(float value) {
  if constexpr (std::is_same_v<T, float>)
    return value;
  else
    return kernels::ToBFloat16(value);
}

inline std::vector<float> ToFloats(const std::vector<float>& values) { return values; }
inline std::vector<float> ToFloats(const std::vector<kernels::BFloat16>& values) {
  std::vector<float> floats;
  for (const kernels::BFloat16 value : values) floats.push_back(kernels::ToFloat(value));
  return floats;
}

// What one rank works with, on its own thread: collectives over values that begin and end on the host.
class Rank {
 public:
  Rank(Communicator& comm, kernels::Backend& backend, const kernels::Buffer& arena)
      : comm_(comm), backend_(backend), stream_(*backend.NewStream(1)), arena_(arena) {}

  Communicator& comm() { return comm_; }
  kernels::Backend& backend() { return backend_; }
  kernels::Stream& stream() { return *stream_; }
  int rank() const { return comm_.rank(); }
  int world() const { return comm_.world(); }

  // In place, as Broadcast.
  template <typename T>
  absl::Status AllReduce(std::vector<T>& values) {
    FreeAll();
    T* data = Upload(values);
    constexpr kernels::DType kType = std::is_same_v<T, float> ? kernels::DType::kF32 : kernels::DType::kBF16;
    YOIO_RETURN_IF_ERROR(comm_.AllReduce(data, values.size(), kType, *stream_));
    return Download(data, values);
  }

  template <typename T>
  absl::Status Broadcast(std::vector<T>& values, int root) {
    FreeAll();
    T* data = Upload(values);
    const std::span<T> span(data, values.size());
    YOIO_RETURN_IF_ERROR(comm_.Broadcast(std::as_writable_bytes(span), root, *stream_));
    return Download(data, values);
  }

  // `all` has its size. `in_place`: the rank's own part lies in `all` from the start.
  template <typename T>
  absl::Status AllGather(const std::vector<T>& mine, std::vector<T>& all, bool in_place = false) {
    FreeAll();
    if (in_place) std::copy(mine.begin(), mine.end(), all.begin() + rank() * mine.size());
    T* to = Upload(all);
    const T* from = in_place ? to + rank() * mine.size() : Upload(mine);
    YOIO_RETURN_IF_ERROR(comm_.AllGather(std::as_bytes(std::span(from, mine.size())),
                                         std::as_writable_bytes(std::span(to, all.size())), *stream_));
    return Download(to, all);
  }

  // Device memory until FreeAll, which the collectives above begin with. On a host it is fresh, so that a
  // sanitizer sees whoever touches it late. A GPU's lies in the arena: an allocation there may wait for the
  // kernels of other ranks.
  template <typename T>
  T* Upload(const std::vector<T>& values) {
    T* data = static_cast<T*>(Take(values.size() * sizeof(T)));
    backend_.CopyToDevice(data, values.data(), values.size() * sizeof(T), *stream_);
    return data;
  }

  // What the device holds when all that was queued has run. The abort's status when the group has ended.
  template <typename T>
  absl::Status Download(const T* data, std::vector<T>& values) {
    backend_.CopyToHost(values.data(), data, values.size() * sizeof(T), *stream_);
    const absl::Status ran = backend_.Synchronize(*stream_);
    YOIO_RETURN_IF_ERROR(comm_.health());
    return ran;
  }

  // Ends the life of all that was uploaded.
  void FreeAll() {
    fresh_.clear();
    taken_ = 0;
  }

 private:
  void* Take(size_t bytes) {
    if (arena_.bytes() == 0) {
      fresh_.push_back(*backend_.Allocate(std::max<size_t>(bytes, 1)));
      return fresh_.back().data();
    }
    void* data = arena_.As<std::byte>() + taken_;
    taken_ += (bytes + 255) / 256 * 256;
    YOIO_CHECK_LE(taken_, arena_.bytes());
    return data;
  }

  Communicator& comm_;
  kernels::Backend& backend_;
  const std::unique_ptr<kernels::Stream> stream_;
  const kernels::Buffer& arena_;  // empty on a host
  size_t taken_ = 0;
  std::vector<kernels::Buffer> fresh_;
};

// All ranks are threads of this process.
class RankGroup {
 public:
  // The ranks' devices, which have not met. MakeBackend's error when the machine has too few of them.
  static absl::StatusOr<RankGroup> Create(CommunicatorKind kind, int world) {
    RankGroup group(kind);
    const bool on_host = kind != CommunicatorKind::kNccl;
    for (int rank = 0; rank < world; ++rank) {
      if (rank == 0 || !on_host) {
        const auto device = on_host ? kernels::DeviceKind::kCpu : kernels::DeviceKind::kCuda;
        YOIO_ASSIGN_OR_RETURN(auto backend, kernels::MakeBackend(device, rank));
        group.owned_.push_back(std::move(backend));
      }
      group.backends_.push_back(group.owned_.back().get());
      group.arenas_.emplace_back();
      if (on_host) continue;
      YOIO_ASSIGN_OR_RETURN(group.arenas_.back(), group.backends_.back()->Allocate(4 << 20));
    }
    return group;
  }

  // The ranks meet, anew if they have met before.
  absl::Status Meet() {
    handles_.clear();
    YOIO_ASSIGN_OR_RETURN(handles_, MakeRanks(kind_, backends_));
    return absl::OkStatus();
  }

  const std::vector<std::unique_ptr<Communicator>>& handles() const { return handles_; }
  kernels::Backend& backend(int rank) { return *backends_[rank]; }

  // As SpawnRanks. No body begins before every rank's stream stands.
  absl::Status Run(const std::function<absl::Status(Rank&)>& body) {
    std::latch ready(static_cast<int>(handles_.size()));
    return SpawnRanks(handles_, [&](Communicator& comm) {
      Rank rank(comm, *backends_[comm.rank()], arenas_[comm.rank()]);
      ready.arrive_and_wait();
      return body(rank);
    });
  }

 private:
  explicit RankGroup(CommunicatorKind kind) : kind_(kind) {}

  CommunicatorKind kind_;
  std::vector<std::unique_ptr<kernels::Backend>> owned_;
  std::vector<kernels::Backend*> backends_;  // by rank
  std::vector<kernels::Buffer> arenas_;
  std::vector<std::unique_ptr<Communicator>> handles_;
};

}  // namespace yoio::test

#endif  // YOIO_TESTS_ENGINE_RANK_GROUP_H_
