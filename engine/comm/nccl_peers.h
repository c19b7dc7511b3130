// The memory through which the ranks of an NCCL group reduce without NCCL.
#ifndef YOIO_ENGINE_COMM_NCCL_PEERS_H_
#define YOIO_ENGINE_COMM_NCCL_PEERS_H_

#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/comm/nccl_group.h"
#include "kernels/cuda/all_reduce_norm.h"
#include "kernels/cuda/peer_memory.h"

namespace yoio {

// One rank's: its inbox, and the inboxes of all others as its device reaches them.
class NcclPeers {
 public:
  // Of every rank of this process; nulls when the kernels do not serve a group of this size, or when any two
  // ranks of it cannot reach each other's memory: all ranks agree on it. Blocks until all have come here.
  static absl::StatusOr<std::vector<std::unique_ptr<NcclPeers>>> Connect(NcclGroup& group);

  const kernels::cuda::ReduceChannels& channels() const { return channels_; }

 private:
  NcclPeers() = default;
  absl::Status Reach(const std::vector<kernels::cuda::PeerAddress>& addresses, int rank, int device);

  std::unique_ptr<kernels::cuda::PeerMemory> inbox_;
  std::vector<std::unique_ptr<kernels::cuda::PeerMapping>> mappings_;
  kernels::cuda::ReduceChannels channels_{};
};

}  // namespace yoio

#endif  // YOIO_ENGINE_COMM_NCCL_PEERS_H_
