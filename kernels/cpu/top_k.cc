// Exact selection in one read of the row. A sample of a thousand scores suggests a floor that somewhat more
// than k scores reach; those are kept as candidates, and up to three histograms over them find the k-th
// highest.
//
// The suggestion can be wrong and nothing but time depends on it: when fewer than k scores reach the floor
// all of them become candidates, and there is room for that. Scores are compared as integers that order like
// them.

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/top_k.cc"
#include "kernels/cpu/top_k.h"

#include <algorithm>
#include <cmath>
#include <new>
#include <numeric>

#include "base/check.h"
#include "hwy/foreach_target.h"  // compiles this file once for each instruction set
#include "hwy/highway.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/parallel.h"

HWY_BEFORE_NAMESPACE();
namespace yoio::kernels::cpu::HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

using Floats = hn::ScalableTag<float>;
using Words = hn::ScalableTag<uint32_t>;
using Keys = hn::Vec<Words>;
constexpr int kLanes = hn::MaxLanes(Words());
static_assert(kLanes <= kCandidateSlack);

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

// Makes candidates of those scores [begin, end) whose keys are at least `floor`.
void KeepCandidates(const float* scores, int begin, int end, uint32_t floor, RowPart& part) {
  const Words d;
  const auto lowest = hn::Set(d, floor);
  int count = 0;
  const auto keep = [&](const float* from, int position, int lanes) HWY_ATTR {
    const auto keys = LoadKeys(from);
    const auto kept = hn::AndNot(hn::Gt(lowest, keys), hn::FirstN(d, lanes));
    if (hn::AllFalse(d, kept)) return;
    hn::CompressStore(hn::Iota(d, static_cast<uint32_t>(position)), kept, d, part.positions + count);
    count += static_cast<int>(hn::CompressStore(keys, kept, d, part.keys + count));
  };
  int i = begin;
  for (; i + kLanes <= end; i += kLanes) keep(scores + i, i, kLanes);
  if (i < end) {
    HWY_ALIGN float last[kLanes] = {};
    std::copy(scores + i, scores + end, last);
    keep(last, i, end - i);
  }
  part.num_candidates = count;
}

// Cuts the interval into bins of 2^shift keys and counts the part's candidates in each.
void CountBins(const KeyInterval& interval, int shift, RowPart& part) {
  const Words d;
  const auto low = hn::Set(d, interval.low);
  const auto last_offset = hn::Set(d, interval.last_offset());
  const int bins = 1 << (interval.shift - shift);
  for (auto& copy : part.histogram) std::fill_n(copy, bins, 0);

  HWY_ALIGN uint32_t inside[kLanes];
  for (int i = 0; i < part.num_candidates; i += kLanes) {
    const auto offset = hn::Sub(hn::LoadU(d, part.keys + i), low);  // wraps for keys below the interval
    const auto counted = hn::AndNot(hn::Gt(offset, last_offset), hn::FirstN(d, part.num_candidates - i));
    if (hn::AllFalse(d, counted)) continue;
    const auto bin = hn::ShiftRightSame(offset, shift);
    const uint32_t first_bin = hn::GetLane(bin);
    if (hn::AllFalse(d, hn::AndNot(hn::Eq(bin, hn::Set(d, first_bin)), counted))) {
      // One bin for all that count: rows of ties or of low contrast would else wait for the same counter each
      // time.
      part.histogram[0][first_bin] += static_cast<uint32_t>(hn::CountTrue(d, counted));
      continue;
    }
    const int count = static_cast<int>(hn::CompressStore(bin, counted, d, inside));
    for (int j = 0; j < count; ++j) ++part.histogram[j % kHistogramCopies][inside[j]];
  }
  for (int copy = 1; copy < kHistogramCopies; ++copy) {
    for (int bin = 0; bin < bins; ++bin) part.histogram[0][bin] += part.histogram[copy][bin];
  }
}

// Writes the positions of the part's candidates above `threshold`, and of the first part.taken that equal it.
void EmitWinners(uint32_t threshold, const RowPart& part) {
  const Words d;
  const auto limit = hn::Set(d, threshold);
  uint32_t* out = reinterpret_cast<uint32_t*>(part.out);
  uint32_t* const end = out + part.above + part.taken;
  int ties_left = part.taken;

  HWY_ALIGN uint32_t buffer[kLanes];
  for (int i = 0; i < part.num_candidates && out < end; i += kLanes) {
    const auto valid = hn::FirstN(d, part.num_candidates - i);
    const auto keys = hn::LoadU(d, part.keys + i);
    auto wins = hn::And(hn::Gt(keys, limit), valid);
    auto ties = hn::And(hn::Eq(keys, limit), valid);
    const int count = static_cast<int>(hn::CountTrue(d, ties));
    if (count > ties_left) {  // the last tie that wins is in lane buffer[ties_left - 1]
      hn::CompressStore(hn::Iota(d, 0), ties, d, buffer);
      ties = hn::And(ties, hn::FirstN(d, ties_left > 0 ? buffer[ties_left - 1] + 1 : 0));
    }
    ties_left -= std::min(count, ties_left);
    wins = hn::Or(wins, ties);
    const auto positions = hn::LoadU(d, part.positions + i);
    if (end - out >= kLanes) {
      out += hn::CompressStore(positions, wins, d, out);  // later winners overwrite what it writes too much
    } else {
      out = std::copy_n(buffer, hn::CompressStore(positions, wins, d, buffer), out);
    }
  }
}

}  // namespace
}  // namespace yoio::kernels::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace yoio::kernels::cpu {

HWY_EXPORT(KeepCandidates);
HWY_EXPORT(CountBins);
HWY_EXPORT(EmitWinners);

namespace {

// From this length on a row is worth dividing among threads, and a floor worth guessing: below it the fixed
// cost of either, two or three microseconds, is what the row costs.
constexpr int kLongRow = 16 << 10;

constexpr int kSamples = 1024;

// Digits of a key, highest first: each interval is cut into bins of 2^shift keys. The first digit holds the
// sign, the exponent and two bits of the mantissa.
constexpr int kDigitShifts[] = {21, 10, 0};

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
    const uint32_t floor = GuessFloor(scores, length, top_k);
    if (KeepAtLeast(floor, scores) < top_k) KeepAtLeast(0, scores);
    const uint32_t threshold = FindThreshold(top_k);
    for (RowPart* part = first_part_; part != nullptr; part = part->next) {
      part->out = positions;
      positions += part->above + part->taken;
    }
    ForEachPart([&](RowPart& part) { HWY_DYNAMIC_DISPATCH(EmitWinners)(threshold, part); });
    return top_k;
  }

 private:
  // Parts begin at multiples of 16 scores, a cache line.
  void Divide(int length) {
    const int64_t lines = (length + 15) / 16;
    RowPart* next = nullptr;
    for (int i = num_parts_ - 1; i >= 0; --i) {
      const int begin = static_cast<int>(std::min<int64_t>(lines * i / num_parts_ * 16, length));
      const int end = static_cast<int>(std::min<int64_t>(lines * (i + 1) / num_parts_ * 16, length));
      const size_t room = std::max(end - begin, kSamples) + kCandidateSlack;
      RowPart* part = new (Memory(i, 2 * room)) RowPart;
      part->next = next;
      part->begin = begin;
      part->end = end;
      part->keys = reinterpret_cast<uint32_t*>(part + 1);
      part->positions = part->keys + room;
      part->above = 0;
      next = part;
    }
    first_part_ = next;
  }

  // A key that at least top_k scores of a long row probably reach, and not many more; 0 where guessing does
  // not pay.
  uint32_t GuessFloor(const float* scores, int length, int top_k) {
    if (length < kLongRow || length / 4 < top_k) return 0;
    const int stride = (length / kSamples - 1) | 1;  // odd: out of step with blocks
    HWY_ALIGN float samples[kSamples];
    for (int i = 0; i < kSamples; ++i) samples[i] = scores[int64_t{i} * stride];
    HWY_DYNAMIC_DISPATCH(KeepCandidates)(samples, 0, kSamples, 0, *first_part_);
    HWY_DYNAMIC_DISPATCH(CountBins)(KeyInterval(), kDigitShifts[0], *first_part_);
    const double winners = static_cast<double>(top_k) * kSamples / length;  // expected among the samples
    int wanted = static_cast<int>(winners + 3 * std::sqrt(winners)) + 1;
    for (int bin = kMaxBins - 1;; --bin) {
      wanted -= static_cast<int>(first_part_->histogram[0][bin]);
      if (wanted <= 0) return static_cast<uint32_t>(bin) << kDigitShifts[0];
    }
  }

  // Returns how many scores became candidates.
  int KeepAtLeast(uint32_t floor, const float* scores) {
    ForEachPart([&](RowPart& part) {
      HWY_DYNAMIC_DISPATCH(KeepCandidates)(scores, part.begin, part.end, floor, part);
    });
    int count = 0;
    for (const RowPart* part = first_part_; part != nullptr; part = part->next) count += part->num_candidates;
    return count;
  }

  // Returns the lowest key that wins and leaves in every part how many of its candidates do: `above` that are
  // higher and `taken` of those that equal it. There are at least top_k candidates.
  uint32_t FindThreshold(int top_k) {
    KeyInterval interval;
    int wanted = top_k;  // winners within the interval
    for (const int shift : kDigitShifts) {
      ForEachPart([&](RowPart& part) { HWY_DYNAMIC_DISPATCH(CountBins)(interval, shift, part); });
      const int bins = 1 << (interval.shift - shift);
      int bin = bins - 1;
      int count = CountInBin(bin);
      while (count < wanted) {
        wanted -= count;
        YOIO_CHECK_GT(bin, 0) << "fewer candidates than winners";
        count = CountInBin(--bin);
      }
      for (RowPart* part = first_part_; part != nullptr; part = part->next) {
        const uint32_t* histogram = part->histogram[0];
        part->above += static_cast<int>(std::accumulate(histogram + bin + 1, histogram + bins, 0u));
        part->in_bin = static_cast<int>(histogram[bin]);
      }
      interval = {interval.low + (static_cast<uint32_t>(bin) << shift), shift};
      if (count == wanted) break;  // the whole bin wins: where in it the lowest key lies does not matter
    }
    for (RowPart* part = first_part_; part != nullptr; part = part->next) {
      part->taken = std::min(part->in_bin, wanted);
      wanted -= part->taken;
    }
    return interval.low;
  }

  int CountInBin(int bin) const {
    int count = 0;
    for (const RowPart* part = first_part_; part != nullptr; part = part->next) {
      count += static_cast<int>(part->histogram[0][bin]);
    }
    return count;
  }

  template <typename Body>
  void ForEachPart(const Body& body) {
    if (num_parts_ == 1) {
      body(*first_part_);
    } else {
      stream_.pool().RunOnAll([&](int thread) { body(*static_cast<RowPart*>(Memory(thread, 0))); });
    }
  }

  // Scratch of part i: its struct and `words` behind it. Asking for fewer than before gives the same memory.
  void* Memory(int i, size_t words) {
    static_assert(sizeof(RowPart) % sizeof(float) == 0 && sizeof(uint32_t) == sizeof(float));
    return stream_.Scratch(first_thread_ + i, sizeof(RowPart) / sizeof(float) + words);
  }

  CpuStream& stream_;
  const int first_thread_;
  const int num_parts_;
  RowPart* first_part_ = nullptr;
};

void SelectRow(const TopKArgs& args, int64_t row, RowSelection selection) {
  int32_t* positions = args.positions + row * args.top_k;
  const int count =
      selection.Select(args.scores + row * args.score_stride, args.rows[row].length, args.top_k, positions);
  if (args.count != nullptr) args.count[row] = count;
  const int32_t* table = args.block_tables + int64_t{args.rows[row].slot} * args.max_blocks;
  int32_t* slots = args.slots + row * args.top_k;
  for (int i = 0; i < count; ++i) {
    slots[i] = table[positions[i] / kBlockTokens] * kBlockTokens + positions[i] % kBlockTokens;
  }
}

}  // namespace

void TopK(const TopKArgs& args, CpuStream& stream) {
  const int num_threads = stream.pool().num_threads();
  int longest = 0;
  for (int row = 0; row < args.num_rows; ++row) longest = std::max(longest, args.rows[row].length);
  const bool few = args.num_rows < 2 * num_threads;
  if (few && longest >= kLongRow) {
    for (int row = 0; row < args.num_rows; ++row) SelectRow(args, row, RowSelection(stream, 0, num_threads));
  } else if (int64_t{args.num_rows} * longest < kLongRow) {
    for (int row = 0; row < args.num_rows; ++row) SelectRow(args, row, RowSelection(stream, 0, 1));
  } else {
    ForTasks(stream, args.num_rows,
             [&](int thread, int64_t row) { SelectRow(args, row, RowSelection(stream, thread, 1)); });
  }
}

}  // namespace yoio::kernels::cpu
#endif  // HWY_ONCE
