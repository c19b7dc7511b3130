// What passes between the search of top_k.cc and its vector loops.
#ifndef YOIO_KERNELS_CPU_TOP_K_H_
#define YOIO_KERNELS_CPU_TOP_K_H_

#include <cstdint>

namespace yoio::kernels::cpu {

// The keys from low to low + 2^shift - 1: where the k-th highest one is known to be.
struct KeyInterval {
  uint32_t low = 0;
  int shift = 32;

  uint32_t last_offset() const { return static_cast<uint32_t>((uint64_t{1} << shift) - 1); }
};

// An interval is cut into at most this many bins: 11 bits of a key at a time.
inline constexpr int kMaxBins = 1 << 11;

// Neighbours in a row often share a bin. Counting them in turn in two copies of the histogram halves the time
// that one increment waits for the one before; four copies gain nothing more and crowd the first-level cache.
inline constexpr int kHistogramCopies = 2;

// A contiguous part of a row, worked on by one thread. Lives in that thread's scratch.
struct RowPart {
  int begin;
  int end;
  int above;     // keys above the interval: winners for certain
  int in_bin;    // keys in the bin that became the interval
  int taken;     // how many of those win, lowest positions first
  int32_t* out;  // above + taken positions
  uint32_t histogram[kHistogramCopies][kMaxBins];
};

}  // namespace yoio::kernels::cpu

#endif  // YOIO_KERNELS_CPU_TOP_K_H_
