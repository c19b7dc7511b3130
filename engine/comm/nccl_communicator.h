// Collectives between GPUs: NCCL's, and over the memory of the GPUs of one host.
#ifndef YOIO_ENGINE_COMM_NCCL_COMMUNICATOR_H_
#define YOIO_ENGINE_COMM_NCCL_COMMUNICATOR_H_

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/comm/communicator.h"

namespace yoio {

// Memory, rendezvous and communicators of CommunicatorKind::kNccl, for engine/comm/factory.cc. `backends` are
// different GPUs (INVALID_ARGUMENT otherwise). Collectives are queued on the stream and can be captured;
// graphs that hold them die before the communicator. No two collectives of a rank run beside each other: the
// caller's streams wait where there are several. AllReduceResidualNorm, of few rows when there are more than
// two ranks, runs over peer memory when all ranks of the group reach each other so. A world of one costs
// nothing. DEADLINE_EXCEEDED cannot say which ranks have not come: NCCL does not.
//
// An abort reaches the ranks of this process. Other processes learn of it by other ways: their plan link
// ends, or their step deadline passes.
int64_t NcclDeviceBytes(int world);
absl::StatusOr<std::unique_ptr<Rendezvous>> MakeNcclRendezvous();
absl::StatusOr<std::vector<std::unique_ptr<Communicator>>> MakeNcclCommunicators(
    const GroupOptions& options, std::span<kernels::Backend* const> backends);

}  // namespace yoio

#endif  // YOIO_ENGINE_COMM_NCCL_COMMUNICATOR_H_
