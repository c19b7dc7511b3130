// What goes in and out of attention of single query rows, and how the sums of several blocks become one.
#ifndef YOIO_KERNELS_CUDA_ATTENTION_DECODE_MERGE_CUH_
#define YOIO_KERNELS_CUDA_ATTENTION_DECODE_MERGE_CUH_

#include <cmath>

#include "kernels/cuda/attention_decode_step.cuh"
#include "kernels/cuda/launch.cuh"

namespace yoio::kernels::cuda::decode {

// What every call brings, whichever kernel runs it.
struct Call {
  const __nv_bfloat16* q;
  int64_t q_stride;
  __nv_bfloat16* out;  // [num_rows, heads, head_dim]
  int num_rows;
  int heads;
  int kv_heads;
  int head_dim;
};

// The call as DecodeKernel and DenseKernel see it. A pair is one row and one kv head; its tokens are cut into
// parts. Parts of a pair that several blocks work on leave their sums in scratch memory, group * 512 bytes
// each.
struct Problem {
  Call call;
  int group;
  float scale;         // of scores, in powers of two
  int parts;           // most parts of a pair
  float* sums;         // [cut pairs, parts, group, kHeadDim]
  float2* stats;       // [cut pairs, parts, kMaxGroup]: maxima (integers), sums of weights
  unsigned* counters;  // [cut pairs]

  static size_t ScratchFloats(int group) { return group * kHeadDim + 2 * kMaxGroup; }  // of one part

  __device__ const __nv_bfloat16* Q(int row, int kv_head) const {
    return call.q + row * call.q_stride + kv_head * group * kHeadDim;
  }
  __device__ __nv_bfloat16* Out(int row, int kv_head, int query) const {
    return call.out + (int64_t{row} * call.heads + kv_head * group + query) * kHeadDim;
  }
};

// Normalised sums of a pair to `out`, those from dimension d on.
template <int kSlabs>
__device__ __forceinline__ void WriteOut(const Problem& problem, int row, int kv_head, int d, int lane,
                                         const Sums<kSlabs>& sums) {
#pragma unroll
  for (int j = 0; j < 2; ++j) {
    const int query = lane % 4 * 2 + j;
    if (query >= problem.group) continue;
    const float inverse = sums.weight[j] > 0.0f ? 1.0f / sums.weight[j] : 0.0f;
    __nv_bfloat16* out = problem.Out(row, kv_head, query) + d + lane / 4;
#pragma unroll
    for (int i = 0; i < kSlabs * 2; ++i) {
      out[i * 8] = __float2bfloat16_rn(sums.value[i / 2][i % 2 * 2 + j] * inverse);
    }
  }
}

// A part's sums of a pair to scratch memory, those from dimension d on.
template <int kSlabs>
__device__ __forceinline__ void Publish(const Problem& problem, int64_t place, int d, int lane,
                                        const Sums<kSlabs>& sums) {
#pragma unroll
  for (int j = 0; j < 2; ++j) {
    const int query = lane % 4 * 2 + j;
    if (query >= problem.group) continue;
    float* out = problem.sums + (place * problem.group + query) * kHeadDim + d + lane / 4;
#pragma unroll
    for (int i = 0; i < kSlabs * 2; ++i) __stcg(out + i * 8, sums.value[i / 2][i % 2 * 2 + j]);
    if (d == 0 && lane < 4) {
      __stcg(problem.stats + place * kMaxGroup + query,
             make_float2(__int_as_float(sums.maximum[j]), sums.weight[j]));
    }
  }
}

// Whether this block is the last of `blocks` to come here for the pair that `counter` belongs to; what the
// others published before can be read then.
__device__ __forceinline__ bool ArriveLast(unsigned* counter, unsigned blocks) {
  __shared__ bool last;
  SyncComputing();
  if (threadIdx.x == 0) {
    unsigned before;
    asm volatile("atom.acq_rel.gpu.global.add.u32 %0, [%1], 1;" : "=r"(before) : "l"(counter) : "memory");
    last = before == blocks - 1;
    if (last) *counter = 0;
  }
  SyncComputing();
  return last;
}

// Sums of four dimensions of a query.
struct QuadSums {
  float sum[4];
  float weight;
  int maximum;

  __device__ void Rescale(int to) {
    const float scale = PowerOfTwo(maximum - to);
    maximum = to;
    weight *= scale;
#pragma unroll
    for (int j = 0; j < 4; ++j) sum[j] *= scale;
  }

  // The maximum is at least `next_maximum`.
  __device__ void Add(float4 next, float next_weight, int next_maximum) {
    const float scale = PowerOfTwo(next_maximum - maximum);
    weight = fmaf(next_weight, scale, weight);
    sum[0] = fmaf(next.x, scale, sum[0]);
    sum[1] = fmaf(next.y, scale, sum[1]);
    sum[2] = fmaf(next.z, scale, sum[2]);
    sum[3] = fmaf(next.w, scale, sum[3]);
  }

  __device__ uint2 Normalised() const {
    const float inverse = weight > 0.0f ? 1.0f / weight : 0.0f;
    return {Pack(sum[0] * inverse, sum[1] * inverse), Pack(sum[2] * inverse, sum[3] * inverse)};
  }
};

// Folds published parts [begin, end) of the pair whose first lies at `place`: dimensions d to d + 3 of a
// query. kTogether: parts whose loads are under way together.
template <int kTogether = 16>
__device__ __forceinline__ QuadSums FoldParts(const Problem& problem, int64_t place, int begin, int end,
                                              int query, int d) {
  const float* values = problem.sums + (place * problem.group + query) * kHeadDim + d;
  const float2* stats = problem.stats + place * kMaxGroup + query;
  const int stride = problem.group * kHeadDim;
  QuadSums sums = {{0.0f, 0.0f, 0.0f, 0.0f}, 0.0f, kNoMaximum};
  for (int first = begin; first < end; first += kTogether) {
    // Loads past the last part repeat it, with no weight: nothing may stand between them.
    float4 value[kTogether];
    float2 stat[kTogether];
#pragma unroll
    for (int i = 0; i < kTogether; ++i) {
      const int part = min(first + i, end - 1);
      stat[i] = __ldcg(stats + part * kMaxGroup);
      value[i] = __ldcg(reinterpret_cast<const float4*>(values + part * stride));
    }
    int next[kTogether];
    int highest = sums.maximum;
#pragma unroll
    for (int i = 0; i < kTogether; ++i) {
      next[i] = first + i < end ? __float_as_int(stat[i].x) : kNoMaximum;
      highest = max(highest, next[i]);
    }
    sums.Rescale(highest);
#pragma unroll
    for (int i = 0; i < kTogether; ++i) sums.Add(value[i], stat[i].y, next[i]);
  }
  return sums;
}

inline float ScoreScale(int head_dim) {
  constexpr double kLog2E = 1.4426950408889634;
  return static_cast<float>(kLog2E / std::sqrt(static_cast<double>(head_dim)));
}

// Whether the shape is one for DecodeKernel and DenseKernel, whose copies and loads are of 16 bytes.
inline bool TakesDecode(const Call& call) {
  return call.head_dim == kHeadDim && call.heads / call.kv_heads <= kMaxGroup && call.q_stride % 8 == 0;
}

// Scratch for `cut_pairs` pairs that several blocks work on.
inline Problem MakeProblem(const CudaStream& stream, const Call& call, int parts, int cut_pairs) {
  Problem problem{};
  problem.call = call;
  problem.group = call.heads / call.kv_heads;
  problem.scale = ScoreScale(kHeadDim);
  problem.parts = parts;
  const size_t published = size_t(cut_pairs) * parts;
  problem.sums = stream.Scratch<float>(published * Problem::ScratchFloats(problem.group));
  problem.stats = reinterpret_cast<float2*>(problem.sums + published * problem.group * kHeadDim);
  problem.counters = stream.counters();
  return problem;
}

}  // namespace yoio::kernels::cuda::decode

#endif  // YOIO_KERNELS_CUDA_ATTENTION_DECODE_MERGE_CUH_
