// Timing and the machine's own ceiling, so that every number stands beside its floor.
#ifndef YOIO_BENCH_MEASURE_H_
#define YOIO_BENCH_MEASURE_H_

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#include "base/clock.h"
#include "base/thread_pool.h"

namespace yoio::bench {

// Median seconds of one call: calls are repeated for about a quarter of a second, after one that warms up.
template <typename Body>
double MedianSeconds(const Body& body) {
  body();
  std::vector<double> seconds;
  const TimePoint end = Clock::now() + std::chrono::milliseconds(250);
  do {
    const TimePoint start = Clock::now();
    body();
    seconds.push_back(ToSeconds(Clock::now() - start));
  } while (Clock::now() < end || seconds.size() < 5);
  std::nth_element(seconds.begin(), seconds.begin() + seconds.size() / 2, seconds.end());
  return seconds[seconds.size() / 2];
}

// Bytes per second at which the threads of `pool` read `bytes` of memory again and again: the ceiling of any
// operation that must read as much, from whichever level of the memory holds it.
inline double ReadBandwidth(ThreadPool& pool, size_t bytes) {
  std::vector<uint64_t> memory(bytes / sizeof(uint64_t), 1);
  std::vector<uint64_t> sums(pool.num_threads());
  const int64_t chunk = 32 << 10;
  const double seconds = MedianSeconds([&] {
    pool.RunOnAll([&](int thread) {
      uint64_t sum = 0;
      const int64_t begin = memory.size() * thread / pool.num_threads();
      const int64_t end = memory.size() * (thread + 1) / pool.num_threads();
      for (int64_t i = begin; i < end; i += chunk) {
        const int64_t stop = std::min(i + chunk, end);
        for (int64_t j = i; j < stop; ++j) sum += memory[j];
      }
      sums[thread] += sum;
    });
  });
  return static_cast<double>(memory.size() * sizeof(uint64_t)) / seconds;
}

}  // namespace yoio::bench

#endif  // YOIO_BENCH_MEASURE_H_
