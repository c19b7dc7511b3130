// Collectives between the ranks of one engine.
#ifndef YOIO_ENGINE_COMM_COMMUNICATOR_H_
#define YOIO_ENGINE_COMM_COMMUNICATOR_H_

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/clock.h"
#include "engine/step_times.h"
#include "kernels/backend.h"

namespace yoio {

// One rank's handle on its group. All ranks call the same collectives in the same order with the same sizes;
// each call runs in the order of `stream` and touches device memory of that rank. Used by the rank's own
// thread, except Abort, which any thread may call. A collective on an aborted group returns the abort's
// status at once, in every rank, and the data is then unspecified.
class Communicator {
 public:
  virtual ~Communicator() = default;

  virtual int rank() const = 0;
  virtual int world() const = 0;

  // Copies root's bytes to every rank.
  virtual absl::Status Broadcast(std::span<std::byte> data, int root, kernels::Stream& stream) = 0;

  // data = sum over ranks; `count` elements of `type`. Host communicators know float alone, and add in rank
  // order, so that all ranks hold the same bits and a run can be repeated.
  virtual absl::Status AllReduce(void* data, size_t count, kernels::DType type, kernels::Stream& stream) = 0;

  // all = the ranks' `mine` one after another; all.size() == world * mine.size().
  virtual absl::Status AllGather(std::span<const std::byte> mine, std::span<std::byte> all,
                                 kernels::Stream& stream) = 0;

  // args.delta is summed over ranks, then the residual and the norm follow as in ResidualRmsNorm. `delta` is
  // the writable pointer behind args.delta; what it holds afterwards means nothing. Composed of AllReduce and
  // ResidualRmsNorm here, so that the sum is rounded to the activation type; a device communicator may fuse
  // them and not round it.
  virtual absl::Status AllReduceResidualNorm(const kernels::ResidualRmsNormArgs& args,
                                             kernels::Activation* delta, kernels::Backend& backend,
                                             kernels::Stream& stream);

  // From now on the time that the device spends in collectives of this handle adds up in `clock`, which
  // outlives it. Before any is recorded. A host's handles do nothing: they tell their watch (GroupOptions).
  virtual void MeasureWaits(kernels::WaitClock* clock) { static_cast<void>(clock); }

  // OK while the group can work; why it cannot otherwise: an abort, or a rank that is gone. Never blocks.
  // What a device communicator learns only while it runs is told here.
  virtual absl::Status health() = 0;

  // Wakes every rank that waits, now and later, with `status` (not OK). The first abort that a process learns
  // of wins there; those of the group's other processes learn that it has ended.
  virtual void Abort(absl::Status status) = 0;
};

// kLocal: threads of one process, host memory. kSocket: threads or processes, host memory. kNccl: threads or
// processes, a GPU each.
enum class CommunicatorKind { kLocal, kSocket, kNccl };

// Where the ranks of one group find each other. Made and kept, until they have met, by the process of rank 0;
// the ticket is what the others need, as bytes. A secret: whoever has it can join.
class Rendezvous {
 public:
  virtual ~Rendezvous() = default;
  virtual const std::string& ticket() const = 0;
};

// `host`: at which address of this machine ranks of other processes find it (kSocket; "" means that there are
// none). UNIMPLEMENTED when this binary was built without the kind.
absl::StatusOr<std::unique_ptr<Rendezvous>> MakeRendezvous(CommunicatorKind kind, const std::string& host);

// Told which collective a rank enters, and once it has left it how long that took. By the rank's thread.
class CollectiveWatch {
 public:
  virtual ~CollectiveWatch() = default;
  virtual void Entered(Collective collective) = 0;
  virtual void Left(Duration took) = 0;
};

struct GroupOptions {
  CommunicatorKind kind = CommunicatorKind::kLocal;
  int world = 1;
  int first_rank = 0;  // this process holds the ranks [first_rank, first_rank + num_ranks)
  int num_ranks = 1;
  std::string ticket = "";           // of the rendezvous
  Rendezvous* rendezvous = nullptr;  // kSocket: in the process of rank 0, where it is for one group only
  std::string host = "";  // kSocket: of rank 0's process, as this one reaches it; "" when all are in one
  Duration timeout = std::chrono::minutes(1);  // for all ranks to have come
  // Of this process's ranks, in order; they outlive the handles. Empty: nobody watches. Nothing is told of
  // kNccl, whose collectives the host only queues.
  std::vector<CollectiveWatch*> watches = {};
};

// Device memory that a handle takes for itself, and that a device must have left when it is made. 0 of a
// host's kinds, and where the kind is not built.
int64_t DeviceBytesOf(CommunicatorKind kind, int world);

// The second of the two places that choose an implementation: the handles of this process's ranks, in order,
// once all ranks of the group have met. `backends`: of each of them. INVALID_ARGUMENT for a world that is not
// served, DEADLINE_EXCEEDED naming the ranks that have not come, UNIMPLEMENTED as above.
absl::StatusOr<std::vector<std::unique_ptr<Communicator>>> MakeCommunicators(
    const GroupOptions& options, std::span<kernels::Backend* const> backends);

}  // namespace yoio

#endif  // YOIO_ENGINE_COMM_COMMUNICATOR_H_
