// The log-probabilities of one token of every row and of the best few: logits [*, vocab] fp32 to out
// [num_rows, 1 + max_top].
//
// Floor: each row of logits is read once, vocab * 4 bytes: 64 rows of 128256 are 33 MB, 11 us at 2.99 TB/s. A
// cluster of 8 blocks keeps a row in shared memory, as in a draw, and weighs it in one pass. Every thread
// knows the best of its own tokens; each of the best few is then one reduction over the cluster, about a
// microsecond, after which only its owner looks for its next. Weights are added in fixed point, so that no
// order of summation shows in the result.
//
// On an H100, microseconds for 1 / 8 / 32 / 64 rows of 128256, the last two out of L2: the token alone
// 13 / 15 / 25 / 42, with the best 5 21 / 23 / 34 / 58, with the best 20 42 / 45 / 59 / 104.
#include <cmath>

#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/row_cluster.cuh"
#include "kernels/cuda/row_slice.cuh"
#include "kernels/logit_math.h"

namespace yoio::kernels::cuda {
namespace {

struct alignas(16) Sum {
  int64_t value = 0;
  int64_t unused = 0;
  __device__ Sum Join(const Sum& other) const { return {value + other.value}; }
};

// What the logits weigh relative to the highest, as LogSoftmax wants it.
__device__ int64_t WeightOf(const Slice& slice, float highest) {
  const bool infinite = LogSoftmax::IsInfinite(highest);
  int64_t weight = 0;
  ForGroups(slice, [&](int, float4 x) {
    for (const float logit : {x.x, x.y, x.z, x.w}) {
      weight += infinite ? logit == highest : FixedWeight(PortableExp(logit - highest));
    }
  });
  return weight;
}

// The best of this thread's tokens behind `limit`; none at minus infinity.
__device__ Highest BestBehind(const Slice& slice, const Highest& limit) {
  Highest best;
  ForGroups(slice, [&](int group, float4 x) {
    if (!(HighestOf(x) > best.logit)) return;
    const float logits[4] = {x.x, x.y, x.z, x.w};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int32_t id = 4 * group + i;
      if (logits[i] < limit.logit || (logits[i] == limit.logit && id > limit.id)) best.See(id, logits[i]);
    }
  });
  return best;
}

__global__ void __launch_bounds__(kClusterThreads, 3) LogprobsKernel(const LogprobsArgs args) {
  extern __shared__ float4 shared[];
  __shared__ ClusterJoin::Memory join_memory;

  AllowNext();
  ClusterJoin join(join_memory);
  WaitForPrevious();
  const int i = blockIdx.x / kClusterBlocks;
  const LogprobRow row = args.rows[i];
  if (row.logits_row < 0) return;
  const bool writes = ClusterRank() == 0 && threadIdx.x == 0;
  TokenLogprob* out = args.out + int64_t{i} * (1 + args.max_top);
  const int32_t token = row.id >= 0 ? row.id : args.drawn[-1 - row.id];
  const float* logits = args.logits + row.logits_row * args.logits_stride;
  const Slice slice = SliceOf(args.vocab, shared);

  const Highest highest = join.OfCluster(Load(logits, args.vocab, slice));
  const bool valid = highest.nan == 0 && token >= 0;
  const LogSoftmax logprob(highest.logit, join.OfCluster(Sum{WeightOf(slice, highest.logit)}).value);
  if (writes) out[0] = {token, valid ? logprob(logits[token]) : NAN};

  Highest best;
  if (valid) best = BestBehind(slice, {INFINITY, -1, 0});
  for (int place = 1; place <= row.top_n; ++place) {
    const Highest next = join.OfCluster(best);
    const bool exists = next.id != INT_MAX;
    if (writes) out[place] = {exists ? next.id : -1, exists ? logprob(next.logit) : 0.0f};
    if (exists && next.id == best.id) best = BestBehind(slice, next);
  }
}

}  // namespace

void Logprobs(const LogprobsArgs& args, CudaStream& stream) {
  Launch(stream, "Logprobs", LogprobsKernel, ClusterForRows(args.num_rows, args.vocab), args);
}

}  // namespace yoio::kernels::cuda
