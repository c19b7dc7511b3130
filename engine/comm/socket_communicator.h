// Collectives between threads or processes over sockets and host memory.
#ifndef YOIO_ENGINE_COMM_SOCKET_COMMUNICATOR_H_
#define YOIO_ENGINE_COMM_SOCKET_COMMUNICATOR_H_

#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/comm/communicator.h"

namespace yoio {

// The handles of this process's ranks, as MakeCommunicators. All ranks are connected with each other. A
// broadcast goes from the root to each rank. A small sum goes everywhere and is added everywhere, a large one
// is cut into a slice per rank. Nobody sleeps while the others come within some 50 microseconds, and nothing
// is allocated once the largest sum has been seen. What ranks do differently is found when they exchange
// bytes: a broadcast of which a rank knows nothing, at the next collective between the two.
//
// A rank that ends says why to all others, which fail with UNAVAILABLE "rank 2 ended: ...". A rank whose
// process dies is UNAVAILABLE "rank 2 is gone". One that is stopped is waited for.
absl::StatusOr<std::vector<std::unique_ptr<Communicator>>> MakeSocketCommunicators(
    const GroupOptions& options);

}  // namespace yoio

#endif  // YOIO_ENGINE_COMM_SOCKET_COMMUNICATOR_H_
