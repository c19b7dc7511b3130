// Exact selection by radix: up to three histograms find the k-th highest score, one more pass emits the
// winners.
//
// Scores are compared as integers that order like them. Every pass reads the row itself: there is no list of
// candidates that could prove too short. The cost is at most four reads of the row, whatever it holds, from
// the second-level cache for rows of up to 256K tokens.

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/top_k.cc"
#include "kernels/cpu/top_k.h"

#include <algorithm>
#include <atomic>
#include <new>
#include <numeric>

#include "base/check.h"
#include "hwy/foreach_target.h"  // compiles this file once for each instruction set
#include "hwy/highway.h"
#include "kernels/cpu/cpu_ops.h"

HWY_BEFORE_NAMESPACE();
namespace yoio::kernels::cpu::HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

using Floats = hn::ScalableTag<float>;
using Words = hn::ScalableTag<uint32_t>;
using Keys = hn::Vec<Words>;
using KeyMask = hn::Mask<Words>;
constexpr int kLanes = hn::MaxLanes(Words());

// Integers in the order of the scores: -0 equals +0, and every NaN lies below -infinity.
Keys LoadKeys(const float* scores) {
  const Words d;
  const auto sign = hn::Set(d, 0x80000000u);
  const auto value = hn::LoadU(Floats(), scores);
  auto bits = hn::BitCast(d, value);
  bits = hn::IfThenZeroElse(hn::Eq(bits, sign), bits);  // -0
  const auto negative = hn::BitCast(d, hn::BroadcastSignBit(hn::BitCast(hn::RebindToSigned<Words>(), bits)));
  const auto keys = hn::Xor(bits, hn::Or(negative, sign));
  return hn::IfThenZeroElse(hn::RebindMask(d, hn::IsNaN(value)), keys);
}

// The keys of the scores [i, min(i + kLanes, end)), and in `valid` which lanes they fill.
Keys LoadKeys(const float* scores, int i, int end, KeyMask& valid) {
  if (i + kLanes <= end) {
    valid = hn::FirstN(Words(), kLanes);
    return LoadKeys(scores + i);
  }
  HWY_ALIGN float last[kLanes] = {};
  std::copy(scores + i, scores + end, last);
  valid = hn::FirstN(Words(), end - i);
  return LoadKeys(last);
}

// Cuts the interval into bins of 2^shift keys and counts the part's keys in each.
void CountBins(const float* scores, const KeyInterval& interval, int shift, RowPart& part) {
  const Words d;
  const auto low = hn::Set(d, interval.low);
  const auto last_offset = hn::Set(d, interval.last_offset());
  const int bins = 1 << (interval.shift - shift);
  for (auto& copy : part.histogram) std::fill_n(copy, bins, 0);

  HWY_ALIGN uint32_t inside[kLanes];
  int i = part.begin;
  if (interval.shift == 32) {  // nothing to leave out
    for (; i + kLanes <= part.end; i += kLanes) {
      hn::Store(hn::ShiftRightSame(LoadKeys(scores + i), shift), d, inside);
      for (int j = 0; j < kLanes; ++j) ++part.histogram[j % kHistogramCopies][inside[j]];
    }
  }
  for (; i < part.end; i += kLanes) {
    KeyMask valid;
    const auto offset = hn::Sub(LoadKeys(scores, i, part.end, valid), low);  // wraps for keys below the interval
    const auto counted = hn::AndNot(hn::Gt(offset, last_offset), valid);
    if (hn::AllFalse(d, counted)) continue;
    const int count = static_cast<int>(hn::CompressStore(hn::ShiftRightSame(offset, shift), counted, d, inside));
    for (int j = 0; j < count; ++j) ++part.histogram[j % kHistogramCopies][inside[j]];
  }
  for (int copy = 1; copy < kHistogramCopies; ++copy) {
    for (int bin = 0; bin < bins; ++bin) part.histogram[0][bin] += part.histogram[copy][bin];
  }
}

// Writes the positions of the part's keys above `threshold`, and of the first part.taken keys equal to it.
void EmitWinners(const float* scores, uint32_t threshold, const RowPart& part) {
  const Words d;
  const auto limit = hn::Set(d, threshold);
  uint32_t* out = reinterpret_cast<uint32_t*>(part.out);
  uint32_t* const end = out + part.above + part.taken;
  int ties_left = part.taken;

  HWY_ALIGN uint32_t winners[kLanes];
  for (int i = part.begin; i < part.end && out < end; i += kLanes) {
    KeyMask valid;
    const auto keys = LoadKeys(scores, i, part.end, valid);
    auto wins = hn::And(hn::Gt(keys, limit), valid);
    if (ties_left > 0) {
      const auto ties = hn::And(hn::Eq(keys, limit), valid);
      const int count = static_cast<int>(hn::CountTrue(d, ties));
      if (count > ties_left) {
        // The last tie that wins lies in this vector: it is lane number inside[ties_left - 1].
        hn::CompressStore(hn::Iota(d, 0), ties, d, winners);
        wins = hn::Or(wins, hn::And(ties, hn::FirstN(d, winners[ties_left - 1] + 1)));
        ties_left = 0;
      } else {
        wins = hn::Or(wins, ties);
        ties_left -= count;
      }
    }
    if (hn::AllFalse(d, wins)) continue;
    const auto positions = hn::Iota(d, static_cast<uint32_t>(i));
    if (end - out >= kLanes) {
      out += hn::CompressStore(positions, wins, d,
                               out);  // what it writes too much is overwritten by later winners
    } else {
      out = std::copy_n(winners, hn::CompressStore(positions, wins, d, winners), out);
    }
  }
}

}  // namespace
}  // namespace yoio::kernels::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace yoio::kernels::cpu {

HWY_EXPORT(CountBins);
HWY_EXPORT(EmitWinners);

namespace {

// From this length on a row is worth dividing among threads: four passes of two microseconds against four
// wake-ups.
constexpr int kMinSharedLength = 16 << 10;

// Selects from one row with the threads [first_thread, first_thread + num_parts) of a stream: with one of
// them, which is then the caller, or with all.
class RowSelection {
 public:
  RowSelection(CpuStream& stream, int first_thread, int num_parts)
      : stream_(stream), first_thread_(first_thread), num_parts_(num_parts) {}

  // Writes min(top_k, length) positions and returns how many.
  int Select(const float* scores, int length, int top_k, int32_t* positions) {
    if (length <= top_k) {
      std::iota(positions, positions + length, 0);
      return length;
    }
    Divide(length);
    const uint32_t threshold = FindThreshold(scores, top_k);
    for (int i = 0; i < num_parts_; ++i) {
      part(i).out = positions;
      positions += part(i).above + part(i).taken;
    }
    ForEachPart([&](RowPart& part) { HWY_DYNAMIC_DISPATCH(EmitWinners)(scores, threshold, part); });
    return top_k;
  }

 private:
  RowPart& part(int i) {
    return *reinterpret_cast<RowPart*>(stream_.Scratch(first_thread_ + i, sizeof(RowPart) / sizeof(float)));
  }

  template <typename Body>
  void ForEachPart(const Body& body) {
    if (num_parts_ == 1) {
      body(part(0));
    } else {
      stream_.pool().RunOnAll([&](int thread) { body(part(thread)); });
    }
  }

  // Parts begin at multiples of 16 scores, a cache line.
  void Divide(int length) {
    const int64_t lines = (length + 15) / 16;
    for (int i = 0; i < num_parts_; ++i) {
      RowPart& part = *new (&this->part(i)) RowPart;
      part.begin = static_cast<int>(std::min<int64_t>(lines * i / num_parts_ * 16, length));
      part.end = static_cast<int>(std::min<int64_t>(lines * (i + 1) / num_parts_ * 16, length));
      part.above = 0;
    }
  }

  // Returns the lowest key that wins and leaves in every part how many of its keys do: `above` that are
  // higher and `taken` of those that equal it. The row holds more than top_k keys.
  uint32_t FindThreshold(const float* scores, int top_k) {
    KeyInterval interval;
    int wanted = top_k;  // winners within the interval
    for (const int shift : {21, 10, 0}) {
      ForEachPart([&](RowPart& part) { HWY_DYNAMIC_DISPATCH(CountBins)(scores, interval, shift, part); });
      const int bins = 1 << (interval.shift - shift);
      int bin = bins;
      int count = 0;
      while (wanted > count) {
        wanted -= count;
        YOIO_CHECK_GT(bin, 0) << "fewer keys than were counted before";
        count = CountInBin(--bin);
      }
      for (int i = 0; i < num_parts_; ++i) {
        const uint32_t* histogram = part(i).histogram[0];
        part(i).above = std::accumulate(histogram + bin + 1, histogram + bins, part(i).above);
        part(i).in_bin = histogram[bin];
      }
      interval = {interval.low + (static_cast<uint32_t>(bin) << shift), shift};
      if (count == wanted) break;  // the whole bin wins: where in it the lowest key lies does not matter
    }
    for (int i = 0; i < num_parts_; ++i) {
      part(i).taken = std::min(part(i).in_bin, wanted);
      wanted -= part(i).taken;
    }
    return interval.low;
  }

  int CountInBin(int bin) {
    int count = 0;
    for (int i = 0; i < num_parts_; ++i) count += static_cast<int>(part(i).histogram[0][bin]);
    return count;
  }

  CpuStream& stream_;
  const int first_thread_;
  const int num_parts_;
};

void SelectRow(const TopKArgs& args, int row, RowSelection& selection) {
  args.count[row] = selection.Select(args.scores + row * args.score_stride, args.rows[row].length, args.top_k,
                                     args.positions + int64_t{row} * args.top_k);
}

}  // namespace

void TopK(const TopKArgs& args, CpuStream& stream) {
  const int num_threads = stream.pool().num_threads();
  int longest = 0;
  for (int row = 0; row < args.num_rows; ++row) longest = std::max(longest, args.rows[row].length);
  if (args.num_rows < 2 * num_threads && longest >= kMinSharedLength) {
    RowSelection shared(stream, 0, num_threads);
    for (int row = 0; row < args.num_rows; ++row) SelectRow(args, row, shared);
    return;
  }
  std::atomic<int> next{0};
  const auto select_rows = [&](int thread) {
    RowSelection alone(stream, thread, 1);
    for (int row = next.fetch_add(1); row < args.num_rows; row = next.fetch_add(1))
      SelectRow(args, row, alone);
  };
  if (int64_t{args.num_rows} * longest < kMinSharedLength) {
    select_rows(0);
  } else {
    stream.pool().RunOnAll(select_rows);
  }
}

}  // namespace yoio::kernels::cpu
#endif  // HWY_ONCE
