// Attention of single query rows over a bounded number of cached tokens each, of head_dim 128 and for up to 8
// query heads a kv head: what SparseAttention and WindowDecode share. A Source tells how many tokens a row
// attends to and where they lie.
//
// Order of summation, fixed by the row alone: a pair (a row and a kv head) is cut into parts of part_tokens,
// a part into tiles of 16; a part's sums are the left fold of its tiles, a pair's the left fold of its parts.
//
// Blocks take equal runs of parts in the order (row, kv head, part), divided as if every row had `capacity`
// tokens, so that dividing reads no memory. What of a pair lies in one block stays in registers; a pair cut
// by a block boundary leaves the sums of each of its parts in scratch memory, and the block that finishes
// last folds them in order. Both come to the same bits (attention_decode_math.cuh says why), and so how many
// blocks there are, and where a pair is cut, may depend on the number of rows.
#ifndef YOIO_KERNELS_CUDA_ATTENTION_DECODE_CUH_
#define YOIO_KERNELS_CUDA_ATTENTION_DECODE_CUH_

#include <algorithm>

#include "base/check.h"
#include "kernels/cuda/attention_decode_merge.cuh"

namespace yoio::kernels::cuda::decode {

// Source is copied to the device and has
//   int capacity                     most tokens of a row
//   struct Row { int count; ... }
//   Row Load(int row)                reads what belongs to a row
//   int Find(Row, int token)         the token's place, for any token < capacity: past the row's count it may
//                                    be anything and is not used
//   TokenAddress At(Row, int place, int kv_head)
//   void Finish(Row, int kv_head, int lane)  called by one warp for every pair that has tokens, when the copy
//   of
//                                    its last token is under way

struct Division {
  int part_tokens;
  int grain;   // parts that are not divided among blocks
  int grains;  // of all rows
};

// The run of parts that is one block's.
struct Share {
  int begin, end;
  int row, kv_head, part;  // of `begin`

  __device__ Share(const Problem& problem, const Division& division) {
    const int block = blockIdx.x, blocks = gridDim.x;
    begin = division.grains * block / blocks * division.grain;
    end = division.grains * (block + 1) / blocks * division.grain;
    const int pair = begin / problem.parts;
    row = pair / problem.call.kv_heads;
    kv_head = pair % problem.call.kv_heads;
    part = begin % problem.parts;
  }

  // The block that holds a part, counted through all rows.
  __device__ static int Owner(int unit, const Division& division) {
    return ((unit / division.grain + 1) * static_cast<int>(gridDim.x) - 1) / division.grains;
  }
};

// Walks the steps of a block's share ahead of their use and fills the ring with them.
template <class Source>
class ShareFeeder {
 public:
  __device__ ShareFeeder(const Source& source, const Problem& problem, const Division& division,
                         const Share& share)
      : source_(source),
        parts_(problem.parts),
        kv_heads_(problem.call.kv_heads),
        part_tokens_(division.part_tokens),
        left_(share.end - share.begin),
        row_(share.row),
        kv_head_(share.kv_head),
        part_(share.part),
        loaded_(source.Load(share.row)) {
    OpenPart();
  }

  __device__ bool done() const { return left_ == 0; }

  template <class Ring>
  __device__ void Fill(Ring& ring, int stage, int turn) {
    const int lane = threadIdx.x % 32, first = (threadIdx.x / 32 - kWarps) * kTile;
    // Places past the row's last token repeat it: they have no weight, but have to be numbers.
    if (token_ + first + kTile > limit_) {
      place_ = source_.Find(loaded_, min(token_ + first + lane % kTile, limit_ - 1));
    }
    ring.Fill(stage, turn, first, lane, source_.At(loaded_, place_, kv_head_));
    const int last = loaded_.count - 1 - token_;
    if (last >= first && last < first + kTile) source_.Finish(loaded_, kv_head_, lane);
    token_ += kStep;
    if (token_ < limit_) {
      Find();
    } else if (Advance()) {
      OpenPart();
    }
  }

 private:
  // Asks for the place of the token this lane copies next, before anything depends on the row's count.
  __device__ void Find() {
    const int token = token_ + (threadIdx.x / 32 - kWarps) * kTile + threadIdx.x % kTile;
    place_ = source_.Find(loaded_, min(token, source_.capacity - 1));
  }

  // Goes to the first part from this one that has tokens.
  __device__ void OpenPart() {
    do {
      token_ = part_ * part_tokens_;
      Find();
      limit_ = min(loaded_.count, token_ + part_tokens_);
    } while (token_ >= limit_ && Advance());
  }

  __device__ bool Advance() {
    if (--left_ == 0) return false;
    if (++part_ < parts_) return true;
    part_ = 0;
    if (++kv_head_ < kv_heads_) return true;
    kv_head_ = 0;
    loaded_ = source_.Load(++row_);
    return true;
  }

  const Source& source_;
  const int parts_, kv_heads_, part_tokens_;
  int left_;  // parts
  int row_, kv_head_, part_;
  int token_, limit_, place_;
  typename Source::Row loaded_;
};

// Folds published parts of a pair and writes its output.
__device__ __forceinline__ void Merge(const Problem& problem, int64_t place, int parts, int row,
                                      int kv_head) {
  constexpr int kQuads = kHeadDim / 4;
  for (int item = threadIdx.x; item < problem.group * kQuads; item += kThreads) {
    const int query = item / kQuads, d = item % kQuads * 4;
    *reinterpret_cast<uint2*>(problem.Out(row, kv_head, query) + d) =
        FoldParts(problem, place, 0, parts, query, d).Normalised();
  }
}

template <class Source, int kStages>
__global__ void __launch_bounds__(kBlockThreads)
    DecodeKernel(const __grid_constant__ Source source, const __grid_constant__ Problem problem,
                 const __grid_constant__ Division division) {
  extern __shared__ __align__(128) unsigned char tiles[];
  __shared__ uint64_t barriers[2 * kStages];
  __shared__ Exchange exchange;
  AllowNext();
  StepRing<kStages> ring(reinterpret_cast<__nv_bfloat16*>(tiles), barriers);
  const Share share(problem, division);
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  WaitForPrevious();
  if (warp >= kWarps) {
    ShareFeeder<Source> feeder(source, problem, division, share);
    CopySteps(ring, feeder);
    return;
  }

  Stepper<kStages> stepper(ring, exchange, problem.scale);
  const int own_d = warp * (kHeadDim / kWarps);
  int row = share.row, kv_head = share.kv_head, part = share.part;
  for (int unit = share.begin; unit < share.end;) {
    Queries queries;
    LoadQueries(problem.Q(row, kv_head), problem.group, lane, queries);
    const typename Source::Row loaded = source.Load(row);
    const int pair_begin = unit - part, pair_end = pair_begin + problem.parts;
    const bool whole = pair_begin >= share.begin && pair_end <= share.end;
    // Cut pairs lie in scratch memory by their first block: there is at most one that goes on in the next.
    const int first_owner = whole ? 0 : Share::Owner(pair_begin, division);
    const int64_t place = int64_t{first_owner} * problem.parts;
    StepSums all;
    all.Clear();
    for (; unit < min(share.end, pair_end); ++unit, ++part) {
      int token = part * division.part_tokens;
      const int limit = min(loaded.count, token + division.part_tokens);
      if (token >= limit) continue;
      StepSums sums;
      sums.Clear();
      for (; token < limit; token += kStep) stepper.Step(limit - token, queries, sums);
      if (whole) {
        all.Fold(sums);
      } else {
        Publish(problem, place + part, own_d, lane, sums);
      }
    }
    if (whole) {
      WriteOut(problem, row, kv_head, own_d, lane, all);
    } else {
      const int blocks = Share::Owner(pair_end - 1, division) - first_owner + 1;
      const int parts = (loaded.count + division.part_tokens - 1) / division.part_tokens;
      if (ArriveLast(problem.counters + first_owner, blocks)) Merge(problem, place, parts, row, kv_head);
    }
    part = 0;
    if (++kv_head == problem.call.kv_heads) {
      kv_head = 0;
      ++row;
    }
  }
}

// How many blocks the parts of all pairs are cut into, and whether pairs are kept whole: one block for every
// place there is, unless a few less make pairs end where blocks do. What a block then saves in publishing is
// more than the idle places cost.
struct Cut {
  int blocks;
  int grain;
};

inline Cut ChooseCut(int pairs, int parts, int places) {
  constexpr double kFewLess = 7.0 / 8;
  if (pairs >= places) {
    const int turns = (pairs + places - 1) / places;
    const int blocks = (pairs + turns - 1) / turns;
    return pairs >= kFewLess * turns * places ? Cut{blocks, parts} : Cut{places, 1};
  }
  const int splits = std::min(places / pairs, parts);
  const bool fills = pairs * splits >= kFewLess * places || splits == parts;
  return {fills ? pairs * splits : std::min(places, pairs * parts), 1};
}

// part_tokens: a multiple of kStep; more when a row would have more than kMaxParts. places: blocks that run
// at a time.
template <class Source, int kStages>
void LaunchDecode(CudaStream& stream, const char* name, const Source& source, const Call& call,
                  int part_tokens, int places) {
  constexpr int kMaxParts = 128;  // bounds the scratch memory
  if (call.num_rows == 0) return;
  const int fewest = (source.capacity + kMaxParts * kStep - 1) / (kMaxParts * kStep) * kStep;
  part_tokens = std::max(part_tokens, fewest);
  const int parts = std::max(1, (source.capacity + part_tokens - 1) / part_tokens);
  const int pairs = call.num_rows * call.kv_heads;
  YOIO_CHECK_LT(int64_t{pairs} * parts * (places + 1), int64_t{1} << 31);
  const Cut cut = ChooseCut(pairs, parts, places);
  const Problem problem = MakeProblem(stream, call, parts, cut.grain == parts ? 0 : cut.blocks);
  const Division division = {
      .part_tokens = part_tokens, .grain = cut.grain, .grains = pairs * parts / cut.grain};
  Launch(stream, name, DecodeKernel<Source, kStages>,
         {.grid = dim3(cut.blocks), .block = dim3(kBlockThreads), .shared_bytes = StepRing<kStages>::kBytes},
         source, problem, division);
}

}  // namespace yoio::kernels::cuda::decode

#endif  // YOIO_KERNELS_CUDA_ATTENTION_DECODE_CUH_
