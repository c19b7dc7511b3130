// Timing and the machine's own ceiling, so that every number stands beside its floor.
#ifndef YOIO_BENCH_MEASURE_H_
#define YOIO_BENCH_MEASURE_H_

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <vector>

#include "base/clock.h"
#include "base/thread_pool.h"

namespace yoio::bench {

// Seconds of single calls: repeated for about a quarter of a second, after one that warms up.
template <typename Body>
std::vector<double> SampleSeconds(const Body& body) {
  body();
  std::vector<double> seconds;
  const TimePoint end = Clock::now() + std::chrono::milliseconds(250);
  do {
    const TimePoint start = Clock::now();
    body();
    seconds.push_back(ToSeconds(Clock::now() - start));
  } while (Clock::now() < end || seconds.size() < 5);
  return seconds;
}

template <typename Body>
double MedianSeconds(const Body& body) {
  std::vector<double> seconds = SampleSeconds(body);
  std::nth_element(seconds.begin(), seconds.begin() + seconds.size() / 2, seconds.end());
  return seconds[seconds.size() / 2];
}

// The least of the samples: for ceilings, which nothing that disturbs the machine may lower.
template <typename Body>
double BestSeconds(const Body& body) {
  const std::vector<double> seconds = SampleSeconds(body);
  return *std::min_element(seconds.begin(), seconds.end());
}

// Bytes per second at which the threads of `pool` read `bytes` of memory again and again: the ceiling of any
// operation that must read as much, from whichever level of the memory holds it.
inline double ReadBandwidth(ThreadPool& pool, size_t bytes) {
  std::vector<uint64_t> memory(bytes / sizeof(uint64_t), 1);
  std::vector<uint64_t> sums(pool.num_threads());
  const double seconds = BestSeconds([&] {
    pool.RunOnAll([&](int thread) {
      const int64_t words = static_cast<int64_t>(memory.size());
      const int64_t begin = words * thread / pool.num_threads();
      const int64_t end = words * (thread + 1) / pool.num_threads();
      sums[thread] += std::accumulate(memory.begin() + begin, memory.begin() + end, uint64_t{0});
    });
  });
  return static_cast<double>(memory.size() * sizeof(uint64_t)) / seconds;
}

}  // namespace yoio::bench

#endif  // YOIO_BENCH_MEASURE_H_
