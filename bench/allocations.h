// How often this program has asked the heap for memory.
#ifndef YOIO_BENCH_ALLOCATIONS_H_
#define YOIO_BENCH_ALLOCATIONS_H_

#include <cstdint>

namespace yoio::bench {

// By `new`, on all threads, since the start. Who links it replaces the global operators.
int64_t Allocations();

}  // namespace yoio::bench

#endif  // YOIO_BENCH_ALLOCATIONS_H_
