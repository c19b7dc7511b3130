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

// Normalised sums of a pair to `out`, those of this warp.
__device__ __forceinline__ void WriteOut(const Problem& problem, int row, int kv_head, int warp, int lane,
                                         const Sums& sums) {
#pragma unroll
  for (int j = 0; j < 2; ++j) {
    const int query = lane % 4 * 2 + j;
    if (query >= problem.group) continue;
    const float inverse = sums.weight[j] > 0.0f ? 1.0f / sums.weight[j] : 0.0f;
    __nv_bfloat16* out = problem.Out(row, kv_head, query) + warp * kSlabs * 16 + lane / 4;
#pragma unroll
    for (int i = 0; i < kSlabs * 2; ++i) {
      out[i * 8] = __float2bfloat16_rn(sums.value[i / 2][i % 2 * 2 + j] * inverse);
    }
  }
}

// A part's sums of a pair to scratch memory, those of this warp.
__device__ __forceinline__ void Publish(const Problem& problem, int64_t place, int warp, int lane,
                                        const Sums& sums) {
#pragma unroll
  for (int j = 0; j < 2; ++j) {
    const int query = lane % 4 * 2 + j;
    if (query >= problem.group) continue;
    float* out = problem.sums + (place * problem.group + query) * kHeadDim + warp * kSlabs * 16 + lane / 4;
#pragma unroll
    for (int i = 0; i < kSlabs * 2; ++i) __stcg(out + i * 8, sums.value[i / 2][i % 2 * 2 + j]);
    if (warp == 0 && lane < 4) {
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

// Folds published parts [place, place + parts) and writes the pair's output: a thread takes four dimensions
// of a query at a time.
__device__ __forceinline__ void Merge(const Problem& problem, int64_t place, int parts, int row,
                                      int kv_head) {
  constexpr int kTogether = 16;  // parts whose loads are under way together
  constexpr int kQuads = kHeadDim / 4;
  for (int item = threadIdx.x; item < problem.group * kQuads; item += kThreads) {
    const int d = item % kQuads * 4, query = item / kQuads;
    const float* values = problem.sums + (place * problem.group + query) * kHeadDim + d;
    const float2* stats = problem.stats + place * kMaxGroup + query;
    const int stride = problem.group * kHeadDim;
    float sum[4] = {}, weight = 0.0f;
    int maximum = kNoMaximum;
    for (int first = 0; first < parts; first += kTogether) {
      // Loads past the last part repeat it, with no weight: nothing may stand between them.
      float4 value[kTogether];
      float2 stat[kTogether];
#pragma unroll
      for (int i = 0; i < kTogether; ++i) {
        const int part = min(first + i, parts - 1);
        stat[i] = __ldcg(stats + part * kMaxGroup);
        value[i] = __ldcg(reinterpret_cast<const float4*>(values + part * stride));
      }
      int next[kTogether];
      int highest = maximum;
#pragma unroll
      for (int i = 0; i < kTogether; ++i) {
        next[i] = first + i < parts ? __float_as_int(stat[i].x) : kNoMaximum;
        highest = max(highest, next[i]);
      }
      const float rescale = PowerOfTwo(maximum - highest);
      maximum = highest;
      weight *= rescale;
#pragma unroll
      for (int j = 0; j < 4; ++j) sum[j] *= rescale;
#pragma unroll
      for (int i = 0; i < kTogether; ++i) {
        const float scale = PowerOfTwo(next[i] - maximum);
        weight = fmaf(stat[i].y, scale, weight);
        sum[0] = fmaf(value[i].x, scale, sum[0]);
        sum[1] = fmaf(value[i].y, scale, sum[1]);
        sum[2] = fmaf(value[i].z, scale, sum[2]);
        sum[3] = fmaf(value[i].w, scale, sum[3]);
      }
    }
    const float inverse = weight > 0.0f ? 1.0f / weight : 0.0f;
    *reinterpret_cast<uint2*>(problem.Out(row, kv_head, query) + d) = {
        Pack(sum[0] * inverse, sum[1] * inverse), Pack(sum[2] * inverse, sum[3] * inverse)};
  }
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
