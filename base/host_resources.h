// What this process may use of the machine it runs on.
#ifndef YOIO_BASE_HOST_RESOURCES_H_
#define YOIO_BASE_HOST_RESOURCES_H_

#include <cstdint>

namespace yoio {

// The least of cgroup quota (rounded up), CPU affinity and cores; at least 1.
int AvailableThreads();

// Bytes that can still be taken: the smaller of what the cgroup leaves and what the system has available.
int64_t AvailableMemoryBytes();

}  // namespace yoio

#endif  // YOIO_BASE_HOST_RESOURCES_H_
