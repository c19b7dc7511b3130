// A communicator of a host, whose waits are measured and seen.
#ifndef YOIO_ENGINE_COMM_WATCHED_COMMUNICATOR_H_
#define YOIO_ENGINE_COMM_WATCHED_COMMUNICATOR_H_

#include "engine/comm/communicator.h"
#include "engine/step_times.h"

namespace yoio {

// Told which collective a rank enters, and once it has left it how long that took. By the rank's thread.
class CollectiveWatch {
 public:
  virtual ~CollectiveWatch() = default;
  virtual void Entered(Collective collective) = 0;
  virtual void Left(Duration took) = 0;
};

// Hands everything on to another handle, which is a host's: there a collective has ended when its call
// returns, which a device's only queues. AllReduceResidualNorm stays what Communicator makes of AllReduce, as
// in every host communicator, so that the norm is no part of the wait.
class WatchedCommunicator final : public Communicator {
 public:
  // Both outlive it.
  WatchedCommunicator(Communicator& inner, CollectiveWatch& watch) : inner_(inner), watch_(watch) {}

  int rank() const override { return inner_.rank(); }
  int world() const override { return inner_.world(); }
  absl::Status Broadcast(std::span<std::byte> data, int root, kernels::Stream& stream) override;
  absl::Status AllReduce(void* data, size_t count, kernels::DType type, kernels::Stream& stream) override;
  absl::Status AllGather(std::span<const std::byte> mine, std::span<std::byte> all,
                         kernels::Stream& stream) override;
  absl::Status health() override { return inner_.health(); }
  void Abort(absl::Status status) override { inner_.Abort(std::move(status)); }

 private:
  template <typename Call>
  absl::Status Watch(Collective collective, Call call);

  Communicator& inner_;
  CollectiveWatch& watch_;
};

}  // namespace yoio

#endif  // YOIO_ENGINE_COMM_WATCHED_COMMUNICATOR_H_
