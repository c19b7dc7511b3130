// Exact selection of the top_k highest scores of each row, ties to the lowest position: ascending positions
// and the cache slots they lie at.
//
//   scores [rows, length] fp32 -> positions, slots [rows, top_k], count [rows]
//   floor: scores are read once, from the L2 cache where IndexScores left them: 0.5 MB a row of 128K, under a
//   microsecond spread over 16 multiprocessors. What counts is the number of times that blocks wait for each
//   other.
//
// A cluster of blocks shares a row. Each reads its stretch of positions once, turns scores into integers of
// the same order, and keeps them in shared memory (what does not fit is read again each time: no length and
// no distribution exhausts anything). Then a radix select: a histogram of the highest 12 bits in each block,
// of which every block of the cluster sums the part it needs out of the others' shared memory, first 64
// coarse bins, then the 64 fine ones of the right coarse bin; this takes one barrier of the cluster. It names
// the bin in which the last winner lies. The next 12 bits of the scores of that bin follow, then the last 8.
// Bits that all scores in question share are skipped, and when a bin wins as a whole the rest is spared: most
// rows take two passes, rows of one value a single one. Now the score of the last winner is known, and how
// many of its equals win. Blocks count their winners, exchange the counts and write them where they belong:
// in order, without a sort.
//
// The time hardly depends on the scores: every pass runs over all of them, and the hardware counts equal bins
// of a warp at once. The number of blocks a row depends on the number of rows, the result does not.
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/launch.cuh"

namespace yoio::kernels::cuda {
namespace {

constexpr int kThreads = 1024;
constexpr int kWarps = kThreads / 32;
constexpr int kDigitBits = 12;  // that a pass looks at
constexpr int kBins = 1 << kDigitBits;
constexpr int kLastBins = 1 << (32 - 2 * kDigitBits);  // of the third pass
constexpr int kCoarse = 64;                            // coarse bins, of as many fine ones each
constexpr int kMaxCluster = 16;
constexpr size_t kMaxSharedBytes = size_t{227} << 10;
constexpr unsigned kAll = 0xffffffff;
static_assert(kCoarse * kCoarse == kBins && kBins == 4 * kThreads);

// Where the last winner lies, as far as it is known.
struct Threshold {
  uint32_t prefix;  // its leading bits
  int open;         // how many bits follow them
  uint32_t need;    // how many of the scores with this prefix win
  bool whole;       // all of them do
};

// Scores above a threshold, and those equal to it.
struct alignas(8) Counts {
  uint32_t above;
  uint32_t equal;
};

// The bits that all of some keys have, and those that any of them has.
struct alignas(8) CommonBits {
  uint32_t all = ~0u;
  uint32_t any = 0;
};

struct SharedState {
  uint32_t histogram[2 * kBins + kLastBins];  // those of the three passes
  uint32_t coarse[3][kCoarse];
  CommonBits common[3];
  Counts warps[kWarps];
  Counts blocks[kMaxCluster];
  Threshold threshold;
};

// Dynamic shared memory: the state, then the keys.
extern __shared__ uint4 shared_memory[];

__device__ SharedState& State() { return *reinterpret_cast<SharedState*>(shared_memory); }
constexpr size_t kStateBytes = (sizeof(SharedState) + 15) / 16 * 16;
__device__ uint32_t* Keys() { return reinterpret_cast<uint32_t*>(shared_memory) + kStateBytes / 4; }

// ---- clusters ----

#if __CUDA_ARCH__ >= 900

__device__ __forceinline__ uint32_t BlockRank() {
  uint32_t rank;
  asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
}

// What this thread has written, or seen written, is visible to the cluster once it has arrived behind a
// fence. The barrier's own release would have all warps wait for such a fence, at a third of a microsecond.
__device__ __forceinline__ void ClusterFence() { asm volatile("fence.acq_rel.cluster;" ::: "memory"); }
__device__ __forceinline__ void ClusterArrive() {
  asm volatile("barrier.cluster.arrive.relaxed;" ::: "memory");
}
__device__ __forceinline__ void ClusterWait() { asm volatile("barrier.cluster.wait.acquire;" ::: "memory"); }

// The address of what lies at `own` here, in block `rank` of the cluster.
__device__ __forceinline__ uint32_t Remote(const void* own, uint32_t rank) {
  uint32_t address;
  asm("mapa.shared::cluster.u32 %0, %1, %2;"
      : "=r"(address)
      : "r"(static_cast<uint32_t>(__cvta_generic_to_shared(own))), "r"(rank));
  return address;
}

__device__ __forceinline__ uint2 LoadPair(uint32_t remote) {
  uint2 value;
  asm volatile("ld.shared::cluster.v2.u32 {%0, %1}, [%2];"
               : "=r"(value.x), "=r"(value.y)
               : "r"(remote)
               : "memory");
  return value;
}

__device__ __forceinline__ void Store(uint32_t remote, Counts counts) {
  asm volatile("st.shared::cluster.v2.u32 [%0], {%1, %2};" ::"r"(remote), "r"(counts.above), "r"(counts.equal)
               : "memory");
}

#else  // No clusters: compiles, and is never launched.

__device__ uint32_t BlockRank() { return 0; }
__device__ void ClusterFence() {}
__device__ void ClusterArrive() { __trap(); }
__device__ void ClusterWait() { __trap(); }
__device__ uint32_t Remote(const void*, uint32_t) { return 0; }
__device__ uint2 LoadPair(uint32_t) { return {0, 0}; }
__device__ void Store(uint32_t, Counts) {}

#endif

// ---- keys ----

// Integers in the order of scores: NaN is 0, below everything, and -0 is made 0.
__device__ __forceinline__ uint32_t Key(float score) {
  const uint32_t bits = __float_as_uint(score + 0.0f);
  const uint32_t key = bits ^ (static_cast<uint32_t>(static_cast<int32_t>(bits) >> 31) | 0x80000000u);
  return score == score ? key : 0;
}

// The stretch of a row that one block looks after. Its size is a multiple of 32, so that a group of 32
// positions lies in one cache block; positions behind the end of the row count as NaN, and as the last ones
// of the row they never win.
struct Stretch {
  const float* scores;  // of its first position
  int begin;
  int size;
  int valid;        // scores that exist
  int cached;       // keys kept in shared memory
  int whole_quads;  // leading groups of four scores that can be read at once

  // Key i, from shared memory or from its score.
  template <bool kKept>
  __device__ uint32_t KeyAt(int i) const {
    if constexpr (kKept) return Keys()[i];
    return i < valid ? Key(scores[i]) : 0;
  }

  // As many of the four scores from 4 * quad on as exist, and NaN.
  __device__ float4 ScoresAt(int quad) const {
    const float nan = __uint_as_float(0x7fffffff);
    const int i = 4 * quad;
    return {i < valid ? scores[i] : nan, i + 1 < valid ? scores[i + 1] : nan,
            i + 2 < valid ? scores[i + 2] : nan, i + 3 < valid ? scores[i + 3] : nan};
  }
};

__device__ __forceinline__ uint4 KeysOf(const float4& s) { return {Key(s.x), Key(s.y), Key(s.z), Key(s.w)}; }

template <typename T>
__device__ __forceinline__ T InclusiveSum(T value, int lane) {
#pragma unroll
  for (int step = 1; step < 32; step *= 2) {
    const T before = __shfl_up_sync(kAll, value, step);
    if (lane >= step) value += before;
  }
  return value;
}

// ---- radix select ----

// Counts the keys that start with the threshold's bits by the next kDigitBits of them, as far as there are so
// many; pass 0 takes all keys.
template <bool kFirst>
class Counter {
 public:
  __device__ Counter(int pass, const Threshold& threshold)
      : threshold_(threshold), shift_(max(0, threshold.open - kDigitBits)), pass_(pass) {}

  // The first `count` of four keys.
  __device__ __forceinline__ void Count(const uint4& keys, int count = 4) {
    uint32_t* const histogram = &State().histogram[kFirst ? 0 : pass_ * kBins];
    const uint32_t four[4] = {keys.x, keys.y, keys.z, keys.w};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const uint32_t key = four[i];
      if (i >= count || (!kFirst && key >> threshold_.open != threshold_.prefix)) continue;
      const uint32_t bin =
          kFirst ? key >> (32 - kDigitBits) : (key >> shift_) & ((1u << (threshold_.open - shift_)) - 1);
      atomicAdd(&histogram[bin], 1u);
      common_.all &= key;
      common_.any |= key;
    }
  }

  // To be called once by all threads of a warp.
  __device__ void Finish(int lane) {
    const uint32_t all = __reduce_and_sync(kAll, common_.all), any = __reduce_or_sync(kAll, common_.any);
    if (lane != 0) return;
    atomicAnd(&State().common[pass_].all, all);
    atomicOr(&State().common[pass_].any, any);
  }

 private:
  const Threshold threshold_;
  const int shift_;
  const int pass_;
  CommonBits common_;
};

// visit(quad, its keys, how many exist) for all quads from first_quad on, read from the scores, several loads
// under way together.
template <typename Visit>
__device__ __forceinline__ void VisitScores(const Stretch& stretch, int first_quad, Visit visit) {
  constexpr int kLoads = 4;
  const float4* const quads = reinterpret_cast<const float4*>(stretch.scores);
  const int whole = max(first_quad, stretch.whole_quads);
  for (int first = first_quad + threadIdx.x; first < whole; first += kLoads * kThreads) {
    float4 scores[kLoads];
#pragma unroll
    for (int i = 0; i < kLoads; ++i) {
      if (first + i * kThreads < whole) scores[i] = quads[first + i * kThreads];
    }
#pragma unroll
    for (int i = 0; i < kLoads; ++i) {
      if (first + i * kThreads < whole) visit(first + i * kThreads, KeysOf(scores[i]), 4);
    }
  }
  for (int quad = whole + threadIdx.x; quad < stretch.size / 4; quad += kThreads) {
    visit(quad, KeysOf(stretch.ScoresAt(quad)), stretch.valid - 4 * quad);
  }
}

// Reads the stretch, keeps its keys and counts them.
__device__ void ReadKeys(const Stretch& stretch, int lane) {
  uint4* const kept = reinterpret_cast<uint4*>(Keys());
  Counter<true> counter(0, Threshold{0, 32, 0, false});
  VisitScores(stretch, 0, [&](int quad, const uint4& keys, int count) {
    if (4 * quad < stretch.cached) kept[quad] = keys;
    counter.Count(keys, count);
  });
  counter.Finish(lane);
}

__device__ void CountAgain(const Stretch& stretch, int pass, const Threshold& threshold, int lane) {
  const uint4* const kept = reinterpret_cast<const uint4*>(Keys());
  const int cached = stretch.cached / 4;
  Counter<false> counter(pass, threshold);
#pragma unroll 4
  for (int quad = threadIdx.x; quad < cached; quad += kThreads) counter.Count(kept[quad]);
  VisitScores(stretch, cached, [&](int, const uint4& keys, int count) { counter.Count(keys, count); });
  counter.Finish(lane);
}

// One of 64 counters.
struct Place {
  uint32_t index;
  uint32_t need;   // rank within it, from the top
  uint32_t count;  // what it holds
};

// Of 64 counters, each summed over the cluster, the one that holds the winner of rank `need`, from the top.
// One warp.
template <int kCluster>
__device__ __forceinline__ Place FindPlace(const uint32_t* counters, uint32_t need, int lane) {
  uint2 pair = {0, 0};  // counters 62 - 2 * lane and 63 - 2 * lane
#pragma unroll
  for (int rank = 0; rank < kCluster; ++rank) {
    const uint2 part = LoadPair(Remote(&counters[62 - 2 * lane], rank));
    pair.x += part.x;
    pair.y += part.y;
  }
  const uint32_t sum = InclusiveSum(pair.x + pair.y, lane);
  const int source = __ffs(__ballot_sync(kAll, sum >= need)) - 1;
  need -= sum - pair.x - pair.y;  // meant in lane `source` only
  const bool lower = need > pair.y;
  return {__shfl_sync(kAll, 63u - 2 * lane - lower, source),
          __shfl_sync(kAll, lower ? need - pair.y : need, source),
          __shfl_sync(kAll, lower ? pair.x : pair.y, source)};
}

// What the histograms of the cluster say. One warp.
template <int kCluster>
__device__ Threshold Narrow(int pass, Threshold threshold, int lane) {
  SharedState& state = State();
  uint2 bits = {~0u, 0};
  if (lane < kCluster) bits = LoadPair(Remote(&state.common[pass], lane));
  const Place coarse = FindPlace<kCluster>(state.coarse[pass], threshold.need, lane);
  const Place fine =
      FindPlace<kCluster>(&state.histogram[pass * kBins + coarse.index * kCoarse], coarse.need, lane);
  const uint32_t all = __reduce_and_sync(kAll, bits.x), any = __reduce_or_sync(kAll, bits.y);

  const int digit_bits = min(kDigitBits, threshold.open);
  threshold.prefix = (pass == 0 ? 0 : threshold.prefix << digit_bits) | coarse.index * kCoarse | fine.index;
  threshold.open -= digit_bits;
  threshold.need = fine.need;
  threshold.whole = fine.need == fine.count;
  // Lower bits that all keys in question share need no pass.
  const uint32_t lower = (1u << threshold.open) - 1;
  const int open = 32 - __clz((all ^ any) & lower);
  threshold.prefix = threshold.prefix << (threshold.open - open) | (all & lower) >> open;
  threshold.open = open;
  return threshold;
}

// From the histograms of all blocks to a longer prefix, the same in every block.
template <int kCluster>
__device__ Threshold Refine(int pass, const Threshold& threshold, int lane, int warp) {
  SharedState& state = State();
  __syncthreads();
  uint4 bins = {0, 0, 0, 0};
  if (pass < 2 || threadIdx.x < kLastBins / 4) {
    bins = reinterpret_cast<const uint4*>(&state.histogram[pass * kBins])[threadIdx.x];
  }
  uint32_t sum = bins.x + bins.y + bins.z + bins.w;
#pragma unroll
  for (int half = 8; half > 0; half /= 2) sum += __shfl_xor_sync(kAll, sum, half);
  if (lane % 16 == 0) state.coarse[pass][threadIdx.x / 16] = sum;
  __syncthreads();
  if (warp == 0) ClusterFence();  // for all threads: it has seen what they wrote
  ClusterArrive();
  ClusterWait();
  if (warp == 0) {
    const Threshold narrowed = Narrow<kCluster>(pass, threshold, lane);
    if (lane == 0) state.threshold = narrowed;
  }
  __syncthreads();
  return state.threshold;
}

// ---- winners ----

// Winners are the keys above `limit`, and the first `ties` keys of the row that equal it.
struct Rule {
  uint32_t limit;
  uint32_t ties;
};

template <int kCluster>
__device__ Rule FindRule(const Stretch& stretch, int top_k, int lane, int warp) {
  ReadKeys(stretch, lane);
  Threshold threshold = {.prefix = 0, .open = 32, .need = static_cast<uint32_t>(top_k), .whole = false};
  threshold = Refine<kCluster>(0, threshold, lane, warp);
  for (int pass = 1; threshold.open > 0 && !threshold.whole; ++pass) {
    CountAgain(stretch, pass, threshold, lane);
    threshold = Refine<kCluster>(pass, threshold, lane, warp);
  }
  // The whole row never wins here, so a prefix that wins as a whole is not 0.
  if (threshold.whole) return {(threshold.prefix << threshold.open) - 1, 0};
  return {threshold.prefix, threshold.need};
}

// The keys of up to 32 groups of 32 positions against the rule: lane i gets the bits of group first + i.
struct GroupBits {
  uint32_t above;
  uint32_t equal;
};

template <bool kKept>
__device__ __forceinline__ GroupBits CompareGroups(const Stretch& stretch, int first, int count,
                                                   const Rule& rule, int lane) {
  GroupBits mine = {0, 0};
#pragma unroll 8
  for (int i = 0; i < count; ++i) {
    const uint32_t key = stretch.KeyAt<kKept>((first + i) * 32 + lane);
    const uint32_t above = __ballot_sync(kAll, key > rule.limit);
    const uint32_t equal = rule.ties > 0 ? __ballot_sync(kAll, key == rule.limit) : 0;
    if (lane == i) mine = {above, equal};
  }
  return mine;
}

__device__ __forceinline__ GroupBits CompareGroups(const Stretch& stretch, int first, int end,
                                                   const Rule& rule, int lane) {
  const int count = min(32, end - first);
  if ((first + count) * 32 <= stretch.cached) return CompareGroups<true>(stretch, first, count, rule, lane);
  return CompareGroups<false>(stretch, first, count, rule, lane);
}

// What the warps before this one, in this block and in the blocks before it, have.
template <int kCluster>
__device__ Counts CountsBefore(const Counts& mine, int lane, int warp) {
  SharedState& state = State();
  if (lane == 0) state.warps[warp] = mine;
  __syncthreads();
  const Counts each = state.warps[lane];
  const uint32_t above = InclusiveSum(each.above, lane), equal = InclusiveSum(each.equal, lane);
  const uint32_t rank = BlockRank();
  if (warp == 0) {
    const Counts total = {__shfl_sync(kAll, above, 31), __shfl_sync(kAll, equal, 31)};
    if (lane < kCluster) Store(Remote(&state.blocks[rank], lane), total);
    ClusterFence();
  }
  ClusterArrive();
  ClusterWait();
  const Counts other = lane < rank ? state.blocks[lane] : Counts{0, 0};
  return {__reduce_add_sync(kAll, other.above) + __shfl_sync(kAll, above - each.above, warp),
          __reduce_add_sync(kAll, other.equal) + __shfl_sync(kAll, equal - each.equal, warp)};
}

// Which of 32 positions win, when `equal_before` positions before them equal the limit.
__device__ __forceinline__ uint32_t Winners(const GroupBits& bits, uint32_t equal_before, uint32_t ties) {
  if (equal_before >= ties) return bits.above;
  const uint32_t room = ties - equal_before;
  uint32_t equal = bits.equal;
  while (__popc(equal) > room) equal &= ~(0x80000000u >> __clz(equal));  // in one group of a row at most
  return bits.above | equal;
}

// Writes a warp's winners: those of 32 positions a lane, which start at `position` and in the cache at
// `slot`, to `place` and behind it.
__device__ void WriteGroups(uint32_t winners, uint32_t place, int position, int slot, int lane,
                            int32_t* positions, int32_t* slots) {
  constexpr int kFew = 8;
  if (__reduce_max_sync(kAll, __popc(winners)) <= kFew) {
    // Every lane its own.
    for (; winners != 0; winners &= winners - 1, ++place) {
      const int bit = __ffs(winners) - 1;
      positions[place] = position + bit;
      slots[place] = slot + bit;
    }
    return;
  }
  // All lanes those of one lane after the other, in whole lines.
  for (unsigned left = __ballot_sync(kAll, winners != 0); left != 0; left &= left - 1) {
    const int source = __ffs(left) - 1;
    const uint32_t wins = __shfl_sync(kAll, winners, source);
    const uint32_t out = __shfl_sync(kAll, place, source) + __popc(wins & ((1u << lane) - 1));
    const int group_position = __shfl_sync(kAll, position, source);
    const int group_slot = __shfl_sync(kAll, slot, source);
    if (wins >> lane & 1) {
      positions[out] = group_position + lane;
      slots[out] = group_slot + lane;
    }
  }
}

// 32 groups of a warp, one a lane: how they compare, and the slot of the group's first position where it may
// matter.
struct Round {
  GroupBits bits;
  int slot;
};

// Writes the stretch's winners. A warp has a run of groups, and compares them twice where there are too many
// to remember.
template <int kCluster>
__device__ void WriteWinners(const TopKArgs& args, int row, const int32_t* table, const Stretch& stretch,
                             const Rule& rule, int lane, int warp) {
  constexpr int kRemembered = 2;  // rounds, for 64K scores of a block
  const int groups = stretch.size / 32, per_warp = (groups + kWarps - 1) / kWarps;
  const int begin = min(warp * per_warp, groups), end = min(begin + per_warp, groups);
  const auto compare = [&](int first) {
    Round round = {CompareGroups(stretch, first, end, rule, lane), 0};
    const int in_stretch = (first + lane) * 32, position = stretch.begin + in_stretch;
    if ((round.bits.above | round.bits.equal) != 0 && in_stretch < stretch.valid) {
      round.slot = table[position / kBlockTokens] * kBlockTokens + position % kBlockTokens;
    }
    return round;
  };

  Counts mine = {0, 0};
  const auto add = [&](const GroupBits& bits) {
    mine.above += __popc(bits.above);
    mine.equal += __popc(bits.equal);
  };
  Round remembered[kRemembered];
#pragma unroll
  for (int i = 0; i < kRemembered; ++i) {
    remembered[i] = compare(begin + i * 32);
    add(remembered[i].bits);
  }
  const int rest = begin + kRemembered * 32;
  for (int first = rest; first < end; first += 32) add(compare(first).bits);
  mine = {__reduce_add_sync(kAll, mine.above), __reduce_add_sync(kAll, mine.equal)};
  Counts before = CountsBefore<kCluster>(mine, lane, warp);

  const auto write = [&](int first, const Round& round) {
    const uint32_t own_above = __popc(round.bits.above), own_equal = __popc(round.bits.equal);
    const uint32_t above = before.above + InclusiveSum(own_above, lane);
    const uint32_t equal = before.equal + InclusiveSum(own_equal, lane);
    const uint32_t place = above - own_above + min(equal - own_equal, rule.ties);
    WriteGroups(Winners(round.bits, equal - own_equal, rule.ties), place, stretch.begin + (first + lane) * 32,
                round.slot, lane, args.positions + int64_t{row} * args.top_k,
                args.slots + int64_t{row} * args.top_k);
    before = {__shfl_sync(kAll, above, 31), __shfl_sync(kAll, equal, 31)};
  };
#pragma unroll
  for (int i = 0; i < kRemembered; ++i) {
    if (begin + i * 32 < end) write(begin + i * 32, remembered[i]);
  }
  for (int first = rest; first < end; first += 32) write(first, compare(first));
}

// Rows that are chosen as a whole.
__device__ void WriteAll(const TopKArgs& args, int row, const int32_t* table, int length, int rank,
                         int cluster) {
  for (int i = rank * kThreads + threadIdx.x; i < length; i += cluster * kThreads) {
    args.positions[int64_t{row} * args.top_k + i] = i;
    args.slots[int64_t{row} * args.top_k + i] = table[i / kBlockTokens] * kBlockTokens + i % kBlockTokens;
  }
}

template <int kCluster>
__global__ void __launch_bounds__(kThreads, 1) TopKKernel(TopKArgs args, int capacity) {
  AllowNext();
  for (int i = threadIdx.x; i < 2 * kBins + kLastBins; i += kThreads) State().histogram[i] = 0;
  if (threadIdx.x < 3) State().common[threadIdx.x] = CommonBits();
  __syncthreads();
  WaitForPrevious();

  const int row = blockIdx.x / kCluster, rank = BlockRank();
  const PagedRow paged = args.rows[row];
  if (rank == 0 && threadIdx.x == 0 && args.count != nullptr) {
    args.count[row] = min(paged.length, args.top_k);
  }
  if (paged.length <= 0) return;
  const int32_t* const table = args.block_tables + int64_t{paged.slot} * args.max_blocks;
  if (paged.length <= args.top_k) {
    WriteAll(args, row, table, paged.length, rank, kCluster);
    return;
  }

  const int groups = (paged.length + 31) / 32;
  Stretch stretch;
  stretch.size = (groups + kCluster - 1) / kCluster * 32;
  stretch.begin = rank * stretch.size;
  stretch.scores = args.scores + row * args.score_stride + stretch.begin;
  stretch.valid = max(0, min(stretch.size, paged.length - stretch.begin));
  stretch.cached = min(stretch.size, capacity);
  stretch.whole_quads =
      reinterpret_cast<uintptr_t>(stretch.scores) % sizeof(float4) == 0 ? stretch.valid / 4 : 0;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const Rule rule = FindRule<kCluster>(stretch, args.top_k, lane, warp);
  WriteWinners<kCluster>(args, row, table, stretch, rule, lane, warp);
}

template <int kCluster>
void LaunchTopK(const TopKArgs& args, CudaStream& stream) {
  const int64_t most = (args.score_stride + 32 * kCluster - 1) / (32 * kCluster) * 32;  // keys in a block
  const int64_t room = (kMaxSharedBytes - kStateBytes) / sizeof(uint32_t) / 32 * 32;
  const int capacity = static_cast<int>(most < room ? most : room);
  Launch(stream, "TopK", TopKKernel<kCluster>,
         {.grid = dim3(static_cast<unsigned>(args.num_rows) * kCluster),
          .block = dim3(kThreads),
          .shared_bytes = kStateBytes + capacity * sizeof(uint32_t),
          .cluster = kCluster},
         args, capacity);
}

}  // namespace

// As many blocks a row as find a multiprocessor each, all rows at once. A cluster lies in one of the groups
// of 10 to 18 multiprocessors that the GPU consists of, so an H100 takes fewer clusters than its 132
// multiprocessors have room for: 7 of 16 blocks, 15 of 8, 17 of 6, 30 of 4, 39 of 3.
void TopK(const TopKArgs& args, CudaStream& stream) {
  if (args.num_rows <= 7) return LaunchTopK<16>(args, stream);
  if (args.num_rows <= 15) return LaunchTopK<8>(args, stream);
  if (args.num_rows <= 17) return LaunchTopK<6>(args, stream);
  if (args.num_rows <= 30) return LaunchTopK<4>(args, stream);
  LaunchTopK<3>(args, stream);
}

}  // namespace yoio::kernels::cuda
