#include "engine/comm/watched_communicator.h"

namespace yoio {

template <typename Call>
absl::Status WatchedCommunicator::Watch(Collective collective, Call call) {
  watch_.Entered(collective);
  const TimePoint begin = Clock::now();
  absl::Status status = call();
  watch_.Left(Clock::now() - begin);
  return status;
}

absl::Status WatchedCommunicator::Broadcast(std::span<std::byte> data, int root, kernels::Stream& stream) {
  return Watch(Collective::kBroadcast, [&] { return inner_.Broadcast(data, root, stream); });
}

absl::Status WatchedCommunicator::AllReduce(void* data, size_t count, kernels::DType type,
                                            kernels::Stream& stream) {
  return Watch(Collective::kAllReduce, [&] { return inner_.AllReduce(data, count, type, stream); });
}

absl::Status WatchedCommunicator::AllGather(std::span<const std::byte> mine, std::span<std::byte> all,
                                            kernels::Stream& stream) {
  return Watch(Collective::kAllGather, [&] { return inner_.AllGather(mine, all, stream); });
}

}  // namespace yoio
