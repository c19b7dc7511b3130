// How an operation divides its items over the threads of its stream.
#ifndef YOIO_KERNELS_CPU_PARALLEL_H_
#define YOIO_KERNELS_CPU_PARALLEL_H_

#include <atomic>
#include <cstdint>

#include "kernels/cpu/cpu_ops.h"

namespace yoio::kernels::cpu {

// Below this many bytes touched, waking a second thread costs more than it saves (a microsecond or two).
inline constexpr int64_t kMinParallelBytes = 64 << 10;

// Calls body(begin, end) once a thread with equal contiguous parts of [0, count); on the caller alone when
// the whole loop touches little. For items of equal cost, whose results do not depend on how they are
// divided.
template <typename Body>
void ForRanges(CpuStream& stream, int64_t count, int64_t bytes_per_item, const Body& body) {
  const int num_threads = stream.pool().num_threads();
  if (num_threads == 1 || count <= 1 || count * bytes_per_item < kMinParallelBytes) {
    if (count > 0) body(int64_t{0}, count);
    return;
  }
  stream.pool().RunOnAll([&](int thread) {
    const int64_t begin = count * thread / num_threads;
    const int64_t end = count * (thread + 1) / num_threads;
    if (begin < end) body(begin, end);
  });
}

// Calls body(thread, task) for every task in [0, count), handed out one by one as threads become free;
// `thread` names the scratch to use. For tasks of unequal cost, whose results do not depend on the thread.
template <typename Body>
void ForTasks(CpuStream& stream, int64_t count, const Body& body) {
  if (stream.pool().num_threads() == 1 || count <= 1) {
    for (int64_t task = 0; task < count; ++task) body(0, task);
    return;
  }
  std::atomic<int64_t> next{0};
  stream.pool().RunOnAll([&](int thread) {
    for (int64_t task = next.fetch_add(1, std::memory_order_relaxed); task < count;
         task = next.fetch_add(1, std::memory_order_relaxed)) {
      body(thread, task);
    }
  });
}

}  // namespace yoio::kernels::cpu

#endif  // YOIO_KERNELS_CPU_PARALLEL_H_
