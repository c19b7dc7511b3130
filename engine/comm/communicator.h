// Collectives between the ranks of one engine.
#ifndef YOIO_ENGINE_COMM_COMMUNICATOR_H_
#define YOIO_ENGINE_COMM_COMMUNICATOR_H_

#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
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
  // the writable pointer behind args.delta and holds the sum afterwards. Composed of AllReduce and
  // ResidualRmsNorm here; a device communicator may fuse them.
  virtual absl::Status AllReduceResidualNorm(const kernels::ResidualRmsNormArgs& args,
                                             kernels::Activation* delta, kernels::Backend& backend,
                                             kernels::Stream& stream);

  // Wakes every rank that waits, now and later, with `status` (not OK). The first abort of a group wins.
  virtual void Abort(absl::Status status) = 0;
};

enum class CommunicatorKind { kLocal };

// The second of the two places that choose an implementation: one handle per rank of a group within this
// process.
absl::StatusOr<std::vector<std::unique_ptr<Communicator>>> MakeCommunicators(CommunicatorKind kind,
                                                                             int world);

}  // namespace yoio

#endif  // YOIO_ENGINE_COMM_COMMUNICATOR_H_
