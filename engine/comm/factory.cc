#include <utility>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "engine/comm/communicator.h"
#include "engine/comm/local_communicator.h"
#include "engine/comm/socket_communicator.h"
#include "engine/comm/socket_join.h"
#include "engine/comm/watched_communicator.h"

#if YOIO_WITH_CUDA
#include "engine/comm/nccl_communicator.h"
#endif

namespace yoio {
namespace {

// What the tests cover. Nothing in the group depends on it.
constexpr int kMaxWorld = 8;

absl::Status Unbuilt(CommunicatorKind kind) {
  return absl::UnimplementedError(
      absl::StrCat("communicator kind ", static_cast<int>(kind), " is not part of this build"));
}

// The handles of a host, with each rank's watch before its own.
absl::StatusOr<std::vector<std::unique_ptr<Communicator>>> Watched(
    absl::StatusOr<std::vector<std::unique_ptr<Communicator>>> handles,
    const std::vector<CollectiveWatch*>& watches) {
  if (!handles.ok() || watches.empty()) return handles;
  YOIO_CHECK_EQ(watches.size(), handles->size());
  for (size_t i = 0; i < watches.size(); ++i) {
    (*handles)[i] = std::make_unique<WatchedCommunicator>(std::move((*handles)[i]), *watches[i]);
  }
  return handles;
}

#if !YOIO_WITH_CUDA
int64_t NcclDeviceBytes(int /*world*/) { return 0; }

absl::StatusOr<std::unique_ptr<Rendezvous>> MakeNcclRendezvous() { return Unbuilt(CommunicatorKind::kNccl); }

absl::StatusOr<std::vector<std::unique_ptr<Communicator>>> MakeNcclCommunicators(
    const GroupOptions&, std::span<kernels::Backend* const>) {
  return Unbuilt(CommunicatorKind::kNccl);
}
#endif

}  // namespace

absl::StatusOr<std::unique_ptr<Rendezvous>> MakeRendezvous(CommunicatorKind kind, const std::string& host) {
  switch (kind) {
    case CommunicatorKind::kSocket:
      return SocketRendezvous::Create(host);
    case CommunicatorKind::kNccl:
      return MakeNcclRendezvous();
    case CommunicatorKind::kLocal:
      break;
  }
  return Unbuilt(kind);
}

int64_t DeviceBytesOf(CommunicatorKind kind, int world) {
  return kind == CommunicatorKind::kNccl ? NcclDeviceBytes(world) : 0;
}

absl::StatusOr<std::vector<std::unique_ptr<Communicator>>> MakeCommunicators(
    const GroupOptions& options, std::span<kernels::Backend* const> backends) {
  if (options.world < 1 || options.world > kMaxWorld) {
    return absl::InvalidArgumentError(
        absl::StrCat("tensor parallel size ", options.world, ": expected 1 to ", kMaxWorld));
  }
  YOIO_CHECK_EQ(static_cast<int>(backends.size()), options.num_ranks);
  switch (options.kind) {
    case CommunicatorKind::kLocal:
      YOIO_CHECK_EQ(options.num_ranks, options.world) << "threads of one process";
      return Watched(MakeLocalCommunicators(options.world), options.watches);
    case CommunicatorKind::kSocket:
      return Watched(MakeSocketCommunicators(options), options.watches);
    case CommunicatorKind::kNccl:
      return MakeNcclCommunicators(options, backends);
  }
  return Unbuilt(options.kind);
}

}  // namespace yoio
