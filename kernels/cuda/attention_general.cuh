// Attention of single query rows over cached tokens for the shapes that no faster kernel takes: any head_dim
// up to 256 and any number of query heads a kv head. Right, and simple: a block is one row and one query
// head, its warps share the tokens, and a lane holds every 32nd dimension. Sources are those of
// attention_decode.cuh. A kv head is read once for each of its query heads, mostly from the second-level
// cache.
//
// Warps take four tokens each in turn; then the warps' sums are folded in order. Weights stay in float.
#ifndef YOIO_KERNELS_CUDA_ATTENTION_GENERAL_CUH_
#define YOIO_KERNELS_CUDA_ATTENTION_GENERAL_CUH_

#include "base/check.h"
#include "kernels/cuda/attention_decode_merge.cuh"

namespace yoio::kernels::cuda::decode {

inline constexpr int kGeneralWarps = 8;
inline constexpr int kGeneralLaneDims = 8;  // most dimensions of a lane

// grid: (heads, rows).
template <class Source, int kLaneDims>
__global__ void __launch_bounds__(kGeneralWarps * 32)
    GeneralKernel(const __grid_constant__ Source source, const __grid_constant__ Call call, float scale) {
  constexpr int kTokens = 4;  // of a warp at a time
  constexpr int kDims = kLaneDims * 32;
  __shared__ float sums[kGeneralWarps][kDims];
  __shared__ float maxima[kGeneralWarps], weights[kGeneralWarps];
  AllowNext();
  WaitForPrevious();
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int head = blockIdx.x, group = call.heads / call.kv_heads, kv_head = head / group;
  const int row = blockIdx.y;
  const typename Source::Row loaded = source.Load(row);

  const auto load = [&](const __nv_bfloat16* from, float(&to)[kLaneDims]) {
#pragma unroll
    for (int j = 0; j < kLaneDims; ++j) {
      const int d = lane + j * 32;
      to[j] = d < call.head_dim ? __bfloat162float(from[d]) : 0.0f;
    }
  };

  float q[kLaneDims], sum[kLaneDims] = {};
  load(call.q + row * call.q_stride + head * call.head_dim, q);
  float maximum = -INFINITY, weight = 0.0f;
  for (int begin = warp * kTokens; begin < loaded.count; begin += kGeneralWarps * kTokens) {
    float score[kTokens], value[kTokens][kLaneDims];
    float highest = maximum;
#pragma unroll
    for (int t = 0; t < kTokens; ++t) {
      const int token = min(begin + t, loaded.count - 1);
      const TokenAddress address = source.At(loaded, source.Find(loaded, token), kv_head);
      float key[kLaneDims];
      load(address.key, key);
      load(address.value, value[t]);
      score[t] = 0.0f;
#pragma unroll
      for (int j = 0; j < kLaneDims; ++j) score[t] = fmaf(q[j], key[j], score[t]);
    }
#pragma unroll
    for (int t = 0; t < kTokens; ++t) {
#pragma unroll
      for (int offset = 16; offset > 0; offset /= 2) score[t] += __shfl_xor_sync(~0u, score[t], offset);
      score[t] = begin + t < loaded.count ? score[t] * scale : -INFINITY;
      highest = fmaxf(highest, score[t]);
    }
    const float rescale = Exp2(maximum - highest);
    maximum = highest;
    weight *= rescale;
#pragma unroll
    for (int j = 0; j < kLaneDims; ++j) sum[j] *= rescale;
#pragma unroll
    for (int t = 0; t < kTokens; ++t) {
      const float p = Exp2(score[t] - maximum);
      weight += p;
#pragma unroll
      for (int j = 0; j < kLaneDims; ++j) sum[j] = fmaf(p, value[t][j], sum[j]);
    }
  }
#pragma unroll
  for (int j = 0; j < kLaneDims; ++j) sums[warp][lane + j * 32] = sum[j];
  if (lane == 0) {
    maxima[warp] = maximum;
    weights[warp] = weight;
  }
  __syncthreads();
  float highest = maxima[0];
  for (int w = 1; w < kGeneralWarps; ++w) highest = fmaxf(highest, maxima[w]);
  for (int d = threadIdx.x; d < call.head_dim; d += kGeneralWarps * 32) {
    float above = 0.0f, below = 0.0f;
    for (int w = 0; w < kGeneralWarps; ++w) {
      const float factor = maxima[w] == -INFINITY ? 0.0f : Exp2(maxima[w] - highest);
      above = fmaf(sums[w][d], factor, above);
      below = fmaf(weights[w], factor, below);
    }
    call.out[(int64_t{row} * call.heads + head) * call.head_dim + d] =
        __float2bfloat16_rn(below > 0.0f ? above / below : 0.0f);
  }
  if (warp == 0 && head % group == 0 && loaded.count > 0) source.Finish(loaded, kv_head, lane);
}

template <class Source>
void LaunchGeneral(CudaStream& stream, const char* name, const Source& source, const Call& call) {
  constexpr int kMostRows = 65535;  // of a grid's second dimension
  YOIO_CHECK_LE(call.num_rows, kMostRows);
  YOIO_CHECK_LE(call.head_dim, kGeneralLaneDims * 32);
  const LaunchShape shape = {.grid = dim3(call.heads, call.num_rows), .block = dim3(kGeneralWarps * 32)};
  if (call.head_dim <= 32) {
    Launch(stream, name, GeneralKernel<Source, 1>, shape, source, call, ScoreScale(call.head_dim));
  } else if (call.head_dim <= 64) {
    Launch(stream, name, GeneralKernel<Source, 2>, shape, source, call, ScoreScale(call.head_dim));
  } else {
    Launch(stream, name, GeneralKernel<Source, kGeneralLaneDims>, shape, source, call,
           ScoreScale(call.head_dim));
  }
}

}  // namespace yoio::kernels::cuda::decode

#endif  // YOIO_KERNELS_CUDA_ATTENTION_GENERAL_CUH_
