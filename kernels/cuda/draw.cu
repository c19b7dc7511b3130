// Draws a token for every row: rows [num_rows] of parameters, logits [*, vocab] fp32, to ids [num_rows]; or a
// candidate from one part of the vocabulary, and a token from the candidates of all parts.
//
// Floor: each row of logits is read once, num_rows * vocab * 4 bytes: 32 x 128256 is 16.4 MB, 5.5 us at
// 2.99 TB/s. Greedy rows do nothing else. Philox costs about 20 wide multiplications a group of four tokens,
// 3 us for those 32 rows.
//
// A cluster of 8 blocks takes a row and keeps it in shared memory, so that what follows the one read costs a
// pass over shared memory and a reduction over the cluster, about a microsecond each. Rows differ in what
// they ask for, and every cluster does what its row needs; the grid knows only how many rows there are.
//
// No token is ever sorted. The kept tokens of top-k and top-p are a prefix of the order (highest logit first,
// ties to the lowest id), which gives a draw by rejection that is exact:
//   1. the best sum of logit and noise among all tokens wins;
//   2. one pass counts and weighs the tokens that are better than the winner: when they are fewer than k and
//      weigh less than what top-p asks for, the winner is among the kept;
//   3. otherwise neither it nor anything behind it is kept: again from 1, among the tokens better than it.
// Where the kept tokens have the share m of all probability, that takes 1 + ln(1 / m) rounds on average. With
// top-k, histograms find the k-th highest logit first, and only ties with it are left to rejection. Weights
// are added in fixed point, so that no order of summation shows in the result.
//
// On an H100, microseconds for 1 / 32 rows of 128256 normal logits of deviation 3, in L2: greedy 4.4 / 6.9,
// temperature 1 11 / 23, top-p 0.95 20 / 40, top-k 50 13 / 22, both 17 / 32; 4 to 8 more for 32 rows out of
// L2. The worst seen are 32 rows of equal logits, whose ties leave all of top-k to rejection: 180 with
// top-k 50, 380 with top-k 1000 and top-p 0.9. On an H200 and out of L2: candidates of a quarter of 1 / 32
// rows take 3.6 / 4.5 when greedy and 7.5 / 11 at temperature 1, of a half 4.6 / 8.4 and 10 / 19; Pick 2.
#include <climits>
#include <cmath>

#include "base/check.h"
#include "kernels/contender.h"
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/row_cluster.cuh"
#include "kernels/cuda/row_slice.cuh"
#include "kernels/draw_math.h"

namespace yoio::kernels::cuda {
namespace {

constexpr float kInfinity = INFINITY;
constexpr int kBins = 256;

// --- What clusters reduce ---

struct Winner : Contender {
  __device__ Winner Join(const Winner& other) const { return other.Beats(*this) ? other : *this; }
};

struct Rank {
  int64_t count = 0;
  int64_t weight = 0;

  __device__ Rank Join(const Rank& other) const { return {count + other.count, weight + other.weight}; }
};

struct alignas(16) Most {
  float value;
  __device__ Most Join(Most other) const { return {fmaxf(value, other.value)}; }
};

struct alignas(16) Least {
  uint32_t value;
  __device__ Least Join(Least other) const { return {min(value, other.value)}; }
};

// --- The order of tokens, and their weights ---

// A place in the order; by default behind all tokens.
struct Token {
  float logit = -kInfinity;
  int32_t id = INT_MAX;

  __device__ bool IsBehind(int32_t other_id, float other) const {
    return (other > logit) | ((other == logit) & (other_id < id));
  }
};

struct Shape {
  float highest;
  float temperature;

  __device__ float Scaled(float logit) const {
    const float difference = logit - highest;
    return temperature == 1.0f ? difference : difference / temperature;
  }
  __device__ int64_t Weight(float logit) const { return FixedWeight(PortableExp(Scaled(logit))); }
};

// How many tokens are better than one, and what they weigh; weights only where somebody asks.
__device__ Rank RankOf(const Token& token, const Slice& slice, const Shape& shape, bool weigh) {
  Rank rank;
  ForGroups(slice, [&](int group, float4 x) {
    if (!token.IsBehind(4 * group, HighestOf(x))) return;
    const float logits[4] = {x.x, x.y, x.z, x.w};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if (!token.IsBehind(4 * group + i, logits[i])) continue;
      ++rank.count;
      if (weigh) rank.weight += shape.Weight(logits[i]);
    }
  });
  return rank;
}

// --- Noise ---

// GumbelNoise(bits) = -log(-log(1 - v)) lies between -log(v) - v (for v <= 0.6) and -log(v): one fast
// logarithm instead of two slow ones tells which tokens need the exact sum. The slack is more than the fast
// logarithm and float sums are off by.
constexpr float kSlack = 1e-4f;
constexpr float kMostNoise = static_cast<float>(kMaxGumbelNoise) + kSlack;
constexpr float kLeastNoise = static_cast<float>(kMinGumbelNoise) - kSlack;

__device__ __forceinline__ float Rest(uint32_t bits) {  // v
  return (__uint2float_rn(~bits) + 0.5f) * 0x1p-32f;
}
__device__ __forceinline__ float NoiseAtMost(uint32_t bits) { return kSlack - __logf(Rest(bits)); }
__device__ __forceinline__ float NoiseAtLeast(uint32_t bits) {
  const float rest = Rest(bits);
  return rest <= 0.6f ? -__logf(rest) - rest - kSlack : kLeastNoise;
}
// Called, not inlined: few tokens need it, and it is long.
__device__ __noinline__ double ExactNoise(uint32_t bits) { return GumbelNoise(bits); }

// What a draw is made from, for one row.
struct Row {
  Slice slice;
  Shape shape;
  const DrawRow& draw;
  int first_group;  // of the part of the vocabulary
  float floor;      // least scaled logit that min-p keeps
  float reach;      // no more than the sum of the best token, which is always kept

  __device__ std::array<uint32_t, 4> NoiseOf(int group) const { return NoiseBits(draw, first_group + group); }
};

// visit(token, scaled, bits) for those tokens of a group that lie before `limit` and whose sum may be `reach`
// or more.
template <typename Visit>
__device__ __forceinline__ void VisitGroup(const Row& row, int group, float4 x, const Token& limit,
                                           float reach, const Visit& visit) {
  const float highest = HighestOf(x);
  const float scaled_highest = row.shape.Scaled(highest);
  if (!limit.IsBehind(4 * group, highest) || scaled_highest < row.floor) return;
  if (scaled_highest + kMostNoise < reach) return;
  const std::array<uint32_t, 4> bits = row.NoiseOf(group);
  const uint32_t most_bits = max(max(bits[0], bits[1]), max(bits[2], bits[3]));
  if (scaled_highest + NoiseAtMost(most_bits) < reach) return;
  const float logits[4] = {x.x, x.y, x.z, x.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const Token token{logits[i], 4 * group + i};
    const float scaled = row.shape.Scaled(token.logit);
    if (!limit.IsBehind(token.id, token.logit) || scaled < row.floor) continue;
    if (scaled + NoiseAtMost(bits[i]) >= reach) visit(token, scaled, bits[i]);
  }
}

// The winner among the tokens before `limit`. The first pass finds how far a sum has to reach, the second is
// for the few threads that hold a token which may, and for its group alone unless there are several.
__device__ Winner FindWinner(const Row& row, const Token& limit, ClusterJoin& join) {
  const Slice& slice = row.slice;
  float reach = row.reach;
  float most = -kInfinity, most_of_others = -kInfinity;  // bounds of groups
  int best = -1;
  for (int i = threadIdx.x; i < slice.groups; i += kClusterThreads) {
    float bound = -kInfinity;
    VisitGroup(row, slice.first + i, slice.logits[i], limit, reach, [&](Token, float scaled, uint32_t bits) {
      bound = fmaxf(bound, scaled + NoiseAtMost(bits));
      reach = fmaxf(reach, scaled + NoiseAtLeast(bits));
    });
    most_of_others = fmaxf(most_of_others, fminf(most, bound));
    if (bound > most) {
      most = bound;
      best = i;
    }
  }
  reach = join.OfBlock(Most{reach}).value;
  Winner winner;
  if (most >= reach) {
    for (int i = threadIdx.x; i < slice.groups; i += kClusterThreads) {
      if (i != best && most_of_others < reach) continue;
      VisitGroup(row, slice.first + i, slice.logits[i], limit, reach, [&](Token token, float, uint32_t bits) {
        winner = winner.Join({{row.shape.temperature * ExactNoise(bits), token.logit, token.id}});
      });
    }
  }
  return join.OfCluster(winner);
}

// --- The k-th highest logit ---

// Integers in the order of the logits; -0 equals +0.
__device__ __forceinline__ uint32_t Key(float logit) {
  const uint32_t bits = __float_as_uint(logit + 0.0f);
  return bits ^ (bits >> 31 != 0 ? ~0u : 0x80000000u);
}
__device__ __forceinline__ float OfKey(uint32_t key) {
  return __uint_as_float(key ^ (key >> 31 != 0 ? 0x80000000u : ~0u));
}

struct Histograms {
  uint32_t of_block[2][kBins];  // taken in turn, as ClusterJoin's slots
  uint32_t of_row[kBins];
};

struct Bin {
  uint32_t index;
  int rank;   // of what is searched, inside the bin
  int count;  // of tokens in it
};

// The bin that holds the token of that rank (from 1), counted from the highest bin; every warp finds it.
__device__ Bin FindBin(const uint32_t* histogram, int rank) {
  constexpr int kBinsOfLane = kBins / 32;
  const int lane = threadIdx.x % 32;
  const int last = kBins - 1 - lane * kBinsOfLane;  // this lane's bins go down from it
  int sum = 0;
  for (int i = 0; i < kBinsOfLane; ++i) sum += histogram[last - i];
  int through = sum;  // this lane's bins and all higher ones
  for (int distance = 1; distance < 32; distance *= 2) {
    const int higher = __shfl_up_sync(~0u, through, distance);
    if (lane >= distance) through += higher;
  }
  const int owner = __ffs(__ballot_sync(~0u, through >= rank)) - 1;
  int left = rank - (through - sum);
  int index = last;
  if (lane == owner) {
    while (left > static_cast<int>(histogram[index])) left -= histogram[index--];
  }
  index = __shfl_sync(~0u, index, owner);
  return {static_cast<uint32_t>(index), __shfl_sync(~0u, left, owner), static_cast<int>(histogram[index])};
}

// A key that at least k tokens reach: the least among the highest of each warp, or of each thread. It keeps
// almost all tokens out of the histograms.
__device__ uint32_t LowerBound(const Slice& slice, int k, ClusterJoin& join) {
  float highest = -kInfinity;
  ForGroups(slice, [&](int, float4 x) { highest = fmaxf(highest, HighestOf(x)); });
  uint32_t key = Key(highest);
  if (k <= kClusterBlocks * kClusterWarps) key = __reduce_max_sync(~0u, key);
  const uint32_t least = join.OfCluster(Least{key}).value;
  return k <= kClusterBlocks * kClusterThreads ? least : Key(-kInfinity);
}

// Counts the tokens of the row in 256 bins of 2^shift keys, from `low` to `low + last`.
__device__ void CountBins(const Slice& slice, uint32_t low, uint32_t last, int shift, uint32_t* mine,
                          uint32_t* of_row) {
  for (int i = threadIdx.x; i < kBins; i += kClusterThreads) mine[i] = 0;
  __syncthreads();
  const float lowest = OfKey(low);
  ForGroups(slice, [&](int, float4 x) {
    if (HighestOf(x) < lowest) return;
    const float logits[4] = {x.x, x.y, x.z, x.w};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const uint32_t offset = Key(logits[i]) - low;  // wraps below the interval
      if (offset <= last) atomicAdd(&mine[offset >> shift], 1u);
    }
  });
  ClusterBarrier();
  for (int i = threadIdx.x; i < kBins; i += kClusterThreads) {
    uint32_t sum = 0;
#pragma unroll
    for (int rank = 0; rank < kClusterBlocks; ++rank) sum += *AtRank(&mine[i], rank);
    of_row[i] = sum;
  }
  __syncthreads();
}

struct Cut {
  float logit;  // at least k tokens reach it, and those that are too many equal it
  bool exact;   // none is too many
};

__device__ Cut FindCut(const Slice& slice, float highest, int k, Histograms& histograms, ClusterJoin& join) {
  uint32_t low = LowerBound(slice, k, join);
  uint32_t last = Key(highest) - low;
  for (int turn = 0; last > 0; turn ^= 1) {
    const int shift = max(0, 24 - __clz(last));
    CountBins(slice, low, last, shift, histograms.of_block[turn], histograms.of_row);
    const Bin bin = FindBin(histograms.of_row, k);
    low += bin.index << shift;
    k = bin.rank;
    if (bin.count == bin.rank) return {OfKey(low), true};
    last = (1u << shift) - 1;
  }
  return {OfKey(low), false};
}

// --- The row ---

// Plus infinities are equal among themselves, and nothing else has a probability.
__device__ void KeepInfinities(const Slice& slice) {
  const auto kept = [](float x) { return x == kInfinity ? 0.0f : -kInfinity; };
  for (int i = threadIdx.x; i < slice.groups; i += kClusterThreads) {
    const float4 x = slice.logits[i];
    slice.logits[i] = {kept(x.x), kept(x.y), kept(x.z), kept(x.w)};
  }
}

// A lower bound of the best token's sum, which is its noise: its scaled logit is 0.
__device__ float ReachOf(const std::array<uint32_t, 4>& bits, int32_t id) {
  const uint32_t first = id % 2 == 0 ? bits[0] : bits[1];
  const uint32_t second = id % 2 == 0 ? bits[2] : bits[3];
  return NoiseAtLeast(id % 4 < 2 ? first : second);
}

__device__ Winner DrawFrom(const Row& row, int top_k, float top_p, Histograms& histograms,
                           ClusterJoin& join) {
  Token limit;
  int64_t most = LLONG_MAX, goal = LLONG_MAX;  // what is better than the token drawn counts and weighs less
  if (top_k > 0) {
    const Cut cut = FindCut(row.slice, row.shape.highest, top_k, histograms, join);
    limit.logit = cut.logit;
    if (!cut.exact) most = top_k;
  }
  if (top_p < 1.0f) {
    const Rank left = join.OfCluster(RankOf(limit, row.slice, row.shape, true));
    const int64_t too_many = most < LLONG_MAX ? left.count - most : 0;
    goal = WeightGoal(top_p, left.weight - too_many * row.shape.Weight(limit.logit));
  }
  while (true) {
    const Winner winner = FindWinner(row, limit, join);
    if (most == LLONG_MAX && goal == LLONG_MAX) return winner;
    limit = {winner.logit, winner.id};
    const Rank better = join.OfCluster(RankOf(limit, row.slice, row.shape, goal < LLONG_MAX));
    if (better.count < most && better.weight < goal) return winner;
  }
}

// Three blocks fit on a multiprocessor with a vocabulary of 128K, of which one may already load while another
// still draws.
__global__ void __launch_bounds__(kClusterThreads, 3) DrawKernel(const DrawArgs args) {
  extern __shared__ float4 shared[];
  __shared__ ClusterJoin::Memory join_memory;
  __shared__ Histograms histograms;

  AllowNext();
  ClusterJoin join(join_memory);
  WaitForPrevious();
  const int i = blockIdx.x / kClusterBlocks;
  const DrawRow row = args.rows[i];
  if (row.logits_row < 0) return;
  const Slice slice = SliceOf(args.vocab, shared);
  const float* logits = row.is_adjusted != 0 ? args.adjusted + i * args.logits_stride
                                             : args.logits + row.logits_row * args.logits_stride;
  const Highest highest = join.OfCluster(Load(logits, args.vocab, slice));
  Candidate drawn{args.first_id + highest.id, highest.logit};
  if (highest.nan != 0) {
    drawn.id = -1;
  } else if (row.temperature != 0.0f && highest.logit > -kInfinity) {
    const bool infinite = highest.logit == kInfinity;
    if (infinite) KeepInfinities(slice);
    const float floor = row.min_p > 0.0f ? static_cast<float>(PortableLog(row.min_p)) : -kInfinity;
    Row from{slice, {infinite ? 0.0f : highest.logit, row.temperature}, row, args.first_id / 4, floor, 0.0f};
    from.reach = ReachOf(from.NoiseOf(highest.id / 4), highest.id);
    const Winner winner = DrawFrom(from, row.top_k < args.vocab ? row.top_k : 0, row.top_p, histograms, join);
    drawn = {args.first_id + winner.id, infinite ? kInfinity : winner.logit};
  }
  if (ClusterRank() == 0 && threadIdx.x == 0) {
    if (args.ids != nullptr) {
      args.ids[i] = drawn.id;
    } else {
      args.candidates[i] = drawn;
    }
  }
  ClusterBarrier();  // no block leaves while another may still read its bins
}

// --- The parts of a vocabulary ---

constexpr int kPickRows = 4;  // of one block: a warp each, and of that a lane for each part

__global__ void __launch_bounds__(kPickRows * 32) PickKernel(const PickArgs args) {
  AllowNext();
  WaitForPrevious();
  const int lane = threadIdx.x % 32, i = blockIdx.x * kPickRows + threadIdx.x / 32;
  if (i >= args.num_rows) return;
  const DrawRow row = args.rows[i];
  if (row.logits_row < 0) return;
  Winner best;
  bool nan = false;
  for (int part = lane; part < args.num_parts; part += 32) {
    const Candidate candidate = args.candidates[int64_t{part} * args.num_rows + i];
    nan |= candidate.id < 0;
    best = best.Join({ContenderOf(row, candidate)});
  }
  best = WarpJoin(best);
  nan = __any_sync(~0u, nan);
  if (lane == 0) args.ids[i] = nan ? -1 : best.id;
}

}  // namespace

void Draw(const DrawArgs& args, CudaStream& stream) {
  YOIO_CHECK(args.first_id % 4 == 0 || args.vocab == 0) << "first id " << args.first_id;
  Launch(stream, "Draw", DrawKernel, ClusterForRows(args.num_rows, args.vocab), args);
}

void Pick(const PickArgs& args, CudaStream& stream) {
  const unsigned blocks = (args.num_rows + kPickRows - 1) / kPickRows;
  Launch(stream, "Pick", PickKernel, {blocks, kPickRows * 32}, args);
}

}  // namespace yoio::kernels::cuda
