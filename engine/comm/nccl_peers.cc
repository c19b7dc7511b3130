#include "engine/comm/nccl_peers.h"

#include <algorithm>
#include <utility>

#include "base/status.h"

namespace yoio {

using kernels::cuda::FlaggedLine;
using kernels::cuda::PeerAddress;
using kernels::cuda::PeerMapping;
using kernels::cuda::PeerMemory;

absl::StatusOr<std::vector<std::unique_ptr<NcclPeers>>> NcclPeers::Connect(NcclGroup& group) {
  std::vector<std::unique_ptr<NcclPeers>> all(group.num_members());
  if (!kernels::cuda::CanReduceOverPeers(group.world())) return all;
  std::vector<PeerAddress> mine;
  for (int member = 0; member < group.num_members(); ++member) {
    all[member].reset(new NcclPeers);
    YOIO_ASSIGN_OR_RETURN(all[member]->inbox_,
                          PeerMemory::Create(group.device(member), kernels::cuda::InboxBytes(group.world())));
    mine.push_back(all[member]->inbox_->address());
  }
  YOIO_ASSIGN_OR_RETURN(const std::vector<PeerAddress> addresses, group.Exchange<PeerAddress>(mine));

  std::vector<char> reaches;
  for (int member = 0; member < group.num_members(); ++member) {
    const int rank = group.first_rank() + member;
    reaches.push_back(all[member]->Reach(addresses, rank, group.device(member)).ok());
    all[member]->channels_.abort = group.abort_word();
  }
  YOIO_ASSIGN_OR_RETURN(const std::vector<char> everyone, group.Exchange<char>(reaches));
  if (std::find(everyone.begin(), everyone.end(), false) != everyone.end()) {
    for (std::unique_ptr<NcclPeers>& peers : all) peers.reset();
  }
  return all;
}

absl::Status NcclPeers::Reach(const std::vector<PeerAddress>& addresses, int rank, int device) {
  const int world = static_cast<int>(addresses.size());
  channels_.rank = rank;
  channels_.world = world;
  channels_.inbox = static_cast<FlaggedLine*>(inbox_->data());
  for (int hop = 1; hop < world; ++hop) {
    YOIO_ASSIGN_OR_RETURN(mappings_.emplace_back(),
                          PeerMapping::Open(addresses[(rank + hop) % world], device));
    channels_.peers[hop - 1] = static_cast<FlaggedLine*>(mappings_.back()->data());
  }
  return absl::OkStatus();
}

}  // namespace yoio
