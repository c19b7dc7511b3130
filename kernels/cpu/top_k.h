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
// that one increment waits for the one before.
inline constexpr int kHistogramCopies = 2;

// Vector loops may write this many elements behind the last candidate.
inline constexpr int kCandidateSlack = 64;

// A contiguous part of a row, worked on by one thread. Lives in that thread's scratch, its candidates behind
// it.
struct RowPart {
  RowPart* next;  // to the right in the row, null for the last
  int begin;
  int end;
  uint32_t* keys;       // [num_candidates], room for all keys of the part and kCandidateSlack more
  uint32_t* positions;  // as keys, ascending
  int num_candidates;
  int above;     // candidates above the interval: winners for certain
  int in_bin;    // candidates in the bin that became the interval
  int taken;     // how many of those win, lowest positions first
  int32_t* out;  // [above + taken]
  uint32_t histogram[kHistogramCopies][kMaxBins];
};

}  // namespace yoio::kernels::cpu

#endif  // YOIO_KERNELS_CPU_TOP_K_H_
