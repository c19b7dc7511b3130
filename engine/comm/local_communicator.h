// Collectives between threads of one process, over host memory.
#ifndef YOIO_ENGINE_COMM_LOCAL_COMMUNICATOR_H_
#define YOIO_ENGINE_COMM_LOCAL_COMMUNICATOR_H_

#include <memory>
#include <vector>

#include "engine/comm/communicator.h"

namespace yoio {

// One handle per rank of a new group; `world` >= 1. Every collective costs two rendezvous of all ranks, and
// no sleep while they arrive within some 50 microseconds of each other. Nothing is copied through a third
// place: ranks read and write each other's buffers directly, therefore a rank that leaves a collective,
// aborted or not, knows that nobody touches its memory any more. Streams are not used: host work has happened
// when a call returns.
std::vector<std::unique_ptr<Communicator>> MakeLocalCommunicators(int world);

}  // namespace yoio

#endif  // YOIO_ENGINE_COMM_LOCAL_COMMUNICATOR_H_
