#include "engine/comm/nccl_communicator.h"

#include <cuda_runtime_api.h>
#include <nccl.h>

#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "base/status.h"
#include "engine/comm/nccl_group.h"
#include "engine/comm/nccl_peers.h"
#include "kernels/cuda/all_reduce_norm.h"
#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/cuda_stream.h"
#include "kernels/cuda/wait_clock.h"

namespace yoio {
namespace {

using kernels::cuda::CudaStream;

// What NCCL takes for itself: 0.97 GiB of each of two H200 with NCCL 2.28.
constexpr int64_t kNcclBytes = int64_t{1} << 30;

// Backends of these ranks are CudaBackends, whose streams are CudaStreams.
CudaStream& Cuda(kernels::Stream& stream) { return static_cast<CudaStream&>(stream); }

ncclDataType_t NcclType(kernels::DType type) {
  return type == kernels::DType::kBF16 ? ncclBfloat16 : ncclFloat32;
}

class NcclRendezvous final : public Rendezvous {
 public:
  explicit NcclRendezvous(std::string ticket) : ticket_(std::move(ticket)) {}
  const std::string& ticket() const override { return ticket_; }

 private:
  const std::string ticket_;
};

class NcclCommunicator final : public Communicator {
 public:
  NcclCommunicator(std::shared_ptr<NcclGroup> group, int member, std::unique_ptr<NcclPeers> peers)
      : group_(std::move(group)), member_(member), peers_(std::move(peers)) {}

  int rank() const override { return group_->first_rank() + member_; }
  int world() const override { return group_->world(); }

  absl::Status Broadcast(std::span<std::byte> data, int root, kernels::Stream& stream) override {
    YOIO_CHECK(root >= 0 && root < world()) << "root " << root << " of a world of " << world();
    return Queue(stream, [&](ncclComm_t comm) {
      return ncclBroadcast(data.data(), data.data(), data.size(), ncclUint8, root, comm, Cuda(stream).get());
    });
  }

  absl::Status AllReduce(void* data, size_t count, kernels::DType type, kernels::Stream& stream) override {
    return Queue(stream, [&](ncclComm_t comm) {
      return ncclAllReduce(data, data, count, NcclType(type), ncclSum, comm, Cuda(stream).get());
    });
  }

  absl::Status AllGather(std::span<const std::byte> mine, std::span<std::byte> all,
                         kernels::Stream& stream) override {
    YOIO_CHECK_EQ(all.size(), mine.size() * world());
    if (world() == 1 && mine.data() != all.data() && !mine.empty()) {
      Cuda(stream).Note(
          cudaMemcpyAsync(all.data(), mine.data(), mine.size(), cudaMemcpyDeviceToDevice, Cuda(stream).get()),
          "a gather of one");
    }
    return Queue(stream, [&](ncclComm_t comm) {
      return ncclAllGather(mine.data(), all.data(), mine.size(), ncclUint8, comm, Cuda(stream).get());
    });
  }

  absl::Status AllReduceResidualNorm(const kernels::ResidualRmsNormArgs& args, kernels::Activation* delta,
                                     kernels::Backend& backend, kernels::Stream& stream) override {
    if (peers_ == nullptr || !kernels::cuda::CanReduceOverPeers(world(), args)) {
      return Communicator::AllReduceResidualNorm(args, delta, backend, stream);
    }
    YOIO_RETURN_IF_ERROR(health());
    kernels::cuda::ReduceChannels channels = peers_->channels();
    channels.clock = clock_;
    kernels::cuda::AllReduceResidualNorm(args, channels, Cuda(stream));
    return absl::OkStatus();
  }

  void MeasureWaits(kernels::WaitClock* clock) override { clock_ = world() > 1 ? clock : nullptr; }

  absl::Status health() override { return group_->health(member_); }
  void Abort(absl::Status status) override { group_->Abort(std::move(status)); }

 private:
  // Queues one collective of NCCL's on the stream.
  absl::Status Queue(kernels::Stream& stream, absl::FunctionRef<ncclResult_t(ncclComm_t)> call) {
    if (clock_ != nullptr) kernels::cuda::BeginWait(clock_, Cuda(stream));
    YOIO_RETURN_IF_ERROR(group_->Queue(member_, call));
    if (clock_ != nullptr) kernels::cuda::EndWait(clock_, Cuda(stream));
    return absl::OkStatus();
  }

  const std::shared_ptr<NcclGroup> group_;
  const int member_;
  const std::unique_ptr<NcclPeers> peers_;  // null: not all ranks reach each other's memory
  kernels::WaitClock* clock_ = nullptr;     // null: nobody wants to know
};

absl::StatusOr<std::vector<int>> DevicesOf(std::span<kernels::Backend* const> backends) {
  std::vector<int> devices;
  for (kernels::Backend* backend : backends) {
    const auto* cuda = dynamic_cast<const kernels::cuda::CudaBackend*>(backend);
    if (cuda == nullptr) return absl::InvalidArgumentError("an NCCL group is of CUDA devices");
    devices.push_back(cuda->device());
  }
  return devices;
}

}  // namespace

int64_t NcclDeviceBytes(int world) {
  if (world == 1) return 0;
  const bool has_inbox = kernels::cuda::CanReduceOverPeers(world);
  return kNcclBytes + (has_inbox ? static_cast<int64_t>(kernels::cuda::InboxBytes(world)) : 0);
}

absl::StatusOr<std::unique_ptr<Rendezvous>> MakeNcclRendezvous() {
  YOIO_ASSIGN_OR_RETURN(std::string ticket, NewNcclTicket());
  return std::make_unique<NcclRendezvous>(std::move(ticket));
}

absl::StatusOr<std::vector<std::unique_ptr<Communicator>>> MakeNcclCommunicators(
    const GroupOptions& options, std::span<kernels::Backend* const> backends) {
  YOIO_ASSIGN_OR_RETURN(std::vector<int> devices, DevicesOf(backends));
  YOIO_ASSIGN_OR_RETURN(std::shared_ptr<NcclGroup> group,
                        NcclGroup::Join({.world = options.world,
                                         .first_rank = options.first_rank,
                                         .devices = std::move(devices),
                                         .ticket = options.ticket,
                                         .deadline = Clock::now() + options.timeout},
                                        *backends[0]));
  YOIO_ASSIGN_OR_RETURN(std::vector<std::unique_ptr<NcclPeers>> peers, NcclPeers::Connect(*group));
  std::vector<std::unique_ptr<Communicator>> ranks;
  for (int member = 0; member < options.num_ranks; ++member) {
    ranks.push_back(std::make_unique<NcclCommunicator>(group, member, std::move(peers[member])));
  }
  return ranks;
}

}  // namespace yoio
