// scores[i, s] = q[i] . key at logical position s: one query of `dim` halves against every index key of a
// paged sequence, for each row.
//
//   q [rows, dim] bf16, keys [slots, dim] bf16 in blocks of 64 tokens, scores fp32
//   floor: length * dim * 2 bytes a row; at dim 128 and 128K tokens 33.5 MB, 11.2 us at 2.99 TB/s
//
// A dot product a key is one multiplication an element read: nothing but the stream of keys counts. Units of
// 32 keys (half a cache block) of all rows are lined up and cut evenly over as many blocks as the device
// holds at once, whatever the lengths are, so the grid is the same at every replay. Each warp finds its units
// itself, from the lengths, and works alone: 32 keys of 128 halves are 16 loads of 16 bytes a lane, all
// issued before the first is used (128 KB in flight on a multiprocessor), and the block ids of its next 32
// units are fetched while the current ones are scored. Keys are marked to leave the L2 cache first: the
// scores have to stay, TopK reads them next.
//
// A score is summed in one order: along each lane's 8 elements, then over the lanes as a tree. It depends on
// nothing but its query and its key.
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/launch.cuh"

namespace yoio::kernels::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;
constexpr int kBlocksPerMultiprocessor = 2;  // at 128 registers a thread, all that fit
constexpr int kUnit = 32;                    // keys that a warp scores at a time: one a lane
constexpr unsigned kAll = 0xffffffff;
static_assert(kBlockTokens % kUnit == 0, "a unit lies in one cache block");

__device__ uint64_t EvictFirst() {
  uint64_t policy;
  asm("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
  return policy;
}

__device__ __forceinline__ uint4 LoadOnce(const void* address, uint64_t policy) {
  uint4 value;
  asm volatile("ld.global.L1::no_allocate.L2::cache_hint.v4.u32 {%0, %1, %2, %3}, [%4], %5;"
               : "=r"(value.x), "=r"(value.y), "=r"(value.z), "=r"(value.w)
               : "l"(address), "l"(policy));
  return value;
}

__device__ __forceinline__ float LowHalf(uint32_t pair) { return __uint_as_float(pair << 16); }
__device__ __forceinline__ float HighHalf(uint32_t pair) { return __uint_as_float(pair & 0xffff0000u); }

// sums[j] over 2 * kHalf neighbouring lanes, added up as a tree, for every j < 2 * kHalf; lane j ends with
// that of j.
template <int kHalf, int kCount>
__device__ __forceinline__ float TransposedSum(float (&sums)[kCount], int lane) {
  if constexpr (kHalf == 0) {
    return sums[0];
  } else {
    const bool upper = lane & kHalf;
#pragma unroll
    for (int j = 0; j < kHalf; ++j) {
      const float give = upper ? sums[j] : sums[j + kHalf];
      const float keep = upper ? sums[j + kHalf] : sums[j];
      sums[j] = keep + __shfl_xor_sync(kAll, give, kHalf);
    }
    return TransposedSum<kHalf / 2>(sums, lane);
  }
}

// Keys of kDim halves: kLanes lanes read one key, 16 bytes each, and a warp reads kUnit / kLanes at a time.
template <int kDim>
class Scorer {
 public:
  __device__ Scorer(const IndexScoresArgs& args, int lane)
      : policy_(EvictFirst()), lane_(lane), keys_(Halves(args.keys) + lane % kLanes * 8) {}

  __device__ void SetQuery(const IndexScoresArgs& args, int row) {
    const uint4 q =
        *reinterpret_cast<const uint4*>(Halves(args.q) + int64_t{row} * kDim + lane_ % kLanes * 8);
    const uint32_t pairs[4] = {q.x, q.y, q.z, q.w};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      q_[2 * i] = LowHalf(pairs[i]);
      q_[2 * i + 1] = HighHalf(pairs[i]);
    }
  }

  // Which key of a unit a lane is handed.
  __device__ int KeyOfLane() const { return lane_ % kLanes * kKeysPerLoad + lane_ / kLanes; }

  // The score of key KeyOfLane() of those from slot `slot` on, of which the first `count` exist.
  __device__ float Score(int64_t slot, int count) const {
    const __nv_bfloat16* base = keys_ + slot * kDim;
    uint4 data[kLanes];
#pragma unroll
    for (int j = 0; j < kLanes; ++j) {
      const int key = j * kKeysPerLoad + lane_ / kLanes;
      data[j] = LoadOnce(base + min(key, count - 1) * kDim, policy_);
    }
    float sums[kLanes];
#pragma unroll
    for (int j = 0; j < kLanes; ++j) sums[j] = Dot(data[j]);
    return TransposedSum<kLanes / 2>(sums, lane_);
  }

 private:
  static constexpr int kLanes = kDim / 8;
  static constexpr int kKeysPerLoad = 32 / kLanes;
  static_assert(kLanes * 8 == kDim && kLanes * kKeysPerLoad == 32);

  __device__ float Dot(const uint4& key) const {
    const uint32_t pairs[4] = {key.x, key.y, key.z, key.w};
    float sum = 0.0f;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      sum = fmaf(q_[2 * i], LowHalf(pairs[i]), sum);
      sum = fmaf(q_[2 * i + 1], HighHalf(pairs[i]), sum);
    }
    return sum;
  }

  const uint64_t policy_;
  const int lane_;
  const __nv_bfloat16* const keys_;
  float q_[8];
};

// Keys of any length: the warp goes through them one after the other, an element a lane.
template <>
class Scorer<0> {
 public:
  __device__ Scorer(const IndexScoresArgs& args, int lane)
      : lane_(lane), dim_(args.dim), keys_(Halves(args.keys)) {}

  __device__ void SetQuery(const IndexScoresArgs& args, int row) {
    q_ = Halves(args.q) + int64_t{row} * dim_;
  }

  __device__ int KeyOfLane() const { return lane_; }

  __device__ float Score(int64_t slot, int count) const {
    float score = 0.0f;
    for (int key = 0; key < count; ++key) {
      float sum = 0.0f;
      for (int j = lane_; j < dim_; j += 32) {
        sum = fmaf(__bfloat162float(q_[j]), __bfloat162float(keys_[(slot + key) * dim_ + j]), sum);
      }
      for (int half = 16; half > 0; half /= 2) sum += __shfl_xor_sync(kAll, sum, half);
      if (key == lane_) score = sum;
    }
    return score;
  }

 private:
  const int lane_;
  const int64_t dim_;
  const __nv_bfloat16* const keys_;
  const __nv_bfloat16* q_ = nullptr;
};

__device__ unsigned Units(const PagedRow& row) {
  return (static_cast<unsigned>(row.length) + kUnit - 1) / kUnit;
}

// Scores the units first, first + kWarps, ... below `end` of one row.
template <int kDim>
__device__ void ScoreUnits(const IndexScoresArgs& args, int row_index, PagedRow row, int first, int end,
                           int lane, Scorer<kDim>& scorer) {
  if (first >= end) return;
  const int32_t* const table = args.block_tables + int64_t{row.slot} * args.max_blocks;
  float* const scores = args.scores + row_index * args.score_stride;
  const auto block_id = [&](int step) {
    const int unit = min(first + (step + lane) * kWarps, end - 1);
    return table[unit / (kBlockTokens / kUnit)];
  };
  int next_ids = block_id(0), ids = 0;
  scorer.SetQuery(args, row_index);
  for (int step = 0, unit = first; unit < end; ++step, unit += kWarps) {
    if (step % 32 == 0) {
      ids = next_ids;
      next_ids = block_id(step + 32);
    }
    const int64_t block = __shfl_sync(kAll, ids, step % 32);
    const int count = min(kUnit, row.length - unit * kUnit);
    const float score = scorer.Score(block * kBlockTokens + unit * kUnit % kBlockTokens, count);
    const int key = scorer.KeyOfLane();
    if (key < count) scores[int64_t{unit} * kUnit + key] = score;
  }
}

// Every warp runs through the rows, 32 at a time, and stops at those that hold units of its block's share.
template <int kDim>
__global__ void __launch_bounds__(kThreads, kBlocksPerMultiprocessor)
    IndexScoresKernel(IndexScoresArgs args) {
  AllowNext();
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  Scorer<kDim> scorer(args, lane);
  WaitForPrevious();

  const auto row_at = [&](int i) { return i < args.num_rows ? args.rows[i] : PagedRow{0, 0}; };
  const PagedRow first_rows = row_at(lane);
  unsigned total = Units(first_rows);
  for (int i = lane + 32; i < args.num_rows; i += 32) total += Units(args.rows[i]);
  total = __reduce_add_sync(kAll, total);
  const unsigned part = total / gridDim.x, rest = total % gridDim.x;
  const unsigned share_begin = part * blockIdx.x + min(rest, blockIdx.x);
  const unsigned share_end = share_begin + part + (blockIdx.x < rest);

  unsigned begin = 0;  // units of the rows before
  for (int chunk = 0; chunk < args.num_rows && begin < share_end; chunk += 32) {
    const PagedRow row = chunk == 0 ? first_rows : row_at(chunk + lane);
    unsigned row_end = Units(row);
    for (int step = 1; step < 32; step *= 2) {
      const unsigned before = __shfl_up_sync(kAll, row_end, step);
      if (lane >= step) row_end += before;
    }
    row_end += begin;
    const unsigned row_begin = row_end - Units(row);
    unsigned mine = __ballot_sync(kAll, max(row_begin, share_begin) < min(row_end, share_end));
    for (; mine != 0; mine &= mine - 1) {
      const int source = __ffs(mine) - 1;
      const PagedRow paged{__shfl_sync(kAll, row.slot, source), __shfl_sync(kAll, row.length, source)};
      const unsigned offset = __shfl_sync(kAll, row_begin, source);
      const int first = max(share_begin, offset) - offset;
      const int end = min(share_end - offset, Units(paged));
      ScoreUnits(args, chunk + source, paged, first + warp, end, lane, scorer);
    }
    begin = __shfl_sync(kAll, row_end, 31);
  }
}

template <int kDim>
void LaunchIndexScores(const IndexScoresArgs& args, CudaStream& stream) {
  const unsigned blocks = kBlocksPerMultiprocessor * stream.multiprocessors();
  Launch(stream, "IndexScores", IndexScoresKernel<kDim>, {.grid = dim3(blocks), .block = dim3(kThreads)},
         args);
}

}  // namespace

void IndexScores(const IndexScoresArgs& args, CudaStream& stream) {
  if (args.num_rows == 0) return;
  switch (args.dim) {
    case 128:
      return LaunchIndexScores<128>(args, stream);
    case 64:
      return LaunchIndexScores<64>(args, stream);
    default:
      return LaunchIndexScores<0>(args, stream);
  }
}

}  // namespace yoio::kernels::cuda
