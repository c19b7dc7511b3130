// Timing and the machine's own ceiling, so that every number stands beside its floor.
#ifndef YOIO_BENCH_MEASURE_H_
#define YOIO_BENCH_MEASURE_H_

#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <numeric>
#include <vector>

#include "base/check.h"
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

inline double Median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + values.size() / 2, values.end());
  return values[values.size() / 2];
}

template <typename Body>
double MedianSeconds(const Body& body) {
  return Median(SampleSeconds(body));
}

// The least of the samples: for ceilings, which nothing that disturbs the machine may lower.
template <typename Body>
double BestSeconds(const Body& body) {
  const std::vector<double> seconds = SampleSeconds(body);
  return *std::min_element(seconds.begin(), seconds.end());
}

// Reads as fast as a core can: four streams, each fetched ahead, because the hardware alone stops at the end
// of a page.
inline uint64_t Sum(const uint64_t* data, size_t words) {
  constexpr size_t kStreams = 4;
  constexpr size_t kLine = 8;    // words
  constexpr size_t kAhead = 64;  // words
  const size_t lines = words / kStreams / kLine;
  uint64_t sums[kLine] = {};
  for (size_t line = 0; line < lines; ++line) {
    for (size_t stream = 0; stream < kStreams; ++stream) {
      const uint64_t* at = data + (stream * lines + line) * kLine;
      __builtin_prefetch(at + kAhead);
      for (size_t i = 0; i < kLine; ++i) sums[i] += at[i];
    }
  }
  for (size_t i = kStreams * lines * kLine; i < words; ++i) sums[0] += data[i];
  return std::accumulate(sums, sums + kLine, uint64_t{0});
}

// Bytes per second at which the threads of `pool` read `bytes` of memory again and again: the ceiling of any
// operation that must read as much, from whichever level of the memory holds it. Threads take pieces as they
// become free, as operations do, so that a busy neighbour slows both alike; the memory lies in large pages
// where the kernel grants them, as that of the backend does.
inline double ReadBandwidth(ThreadPool& pool, size_t bytes) {
  constexpr size_t kPieceWords = size_t{32} << 10;  // 256 KiB
  constexpr size_t kLargePage = size_t{2} << 20;
  const size_t size = (bytes + kLargePage - 1) / kLargePage * kLargePage;
  const std::unique_ptr<uint64_t[], decltype(&std::free)> memory(
      static_cast<uint64_t*>(std::aligned_alloc(kLargePage, size)), &std::free);
  YOIO_CHECK(memory != nullptr) << "no room for " << size << " bytes";
  madvise(memory.get(), size, MADV_HUGEPAGE);
  const size_t words = bytes / sizeof(uint64_t);
  std::fill_n(memory.get(), words, uint64_t{1});
  const size_t pieces = (words + kPieceWords - 1) / kPieceWords;
  std::vector<uint64_t> sums(pieces);
  const double seconds = BestSeconds([&] {
    pool.ParallelFor(static_cast<int64_t>(pieces), [&](int64_t piece) {
      const size_t begin = piece * kPieceWords;
      sums[piece] += Sum(memory.get() + begin, std::min(words - begin, kPieceWords));
    });
  });
  return static_cast<double>(words * sizeof(uint64_t)) / seconds;
}

}  // namespace yoio::bench

#endif  // YOIO_BENCH_MEASURE_H_
