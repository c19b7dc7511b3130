// The arithmetic of one tile: 16 cached tokens of one kv head against the up to 8 query heads that read it,
// on the matrix units. Keys are the 16-row operand and queries the 8 columns, S^T = K Q^T, then O^T = V^T
// P^T, so that a group of 4 or 5 queries wastes columns and not rows. Products of bf16, sums in float; P is
// rounded to bf16 where it meets V, not in its sum.
//
// Maxima are rounded up to integers, in powers of two: every rescaling is exact then, and sums of tiles come
// to the same bits whichever maximum they were taken against on the way.
#ifndef YOIO_KERNELS_CUDA_ATTENTION_DECODE_MATH_CUH_
#define YOIO_KERNELS_CUDA_ATTENTION_DECODE_MATH_CUH_

#include "kernels/cuda/attention_decode_ring.cuh"
#include "kernels/cuda/mma.cuh"

namespace yoio::kernels::cuda::decode {

inline constexpr int kMaxGroup = 8;  // query heads of a kv head
inline constexpr int kNoMaximum = -(1 << 28);

// 2^exponent for exponent <= 0; zero when that is not a normal number.
__device__ __forceinline__ float PowerOfTwo(int exponent) {
  return exponent < -126 ? 0.0f : __int_as_float((exponent + 127) << 23);
}

__device__ __forceinline__ uint32_t Pack(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  return *reinterpret_cast<const uint32_t*>(&pair);
}

// The bits of the first `count` of a pair of halves.
__device__ __forceinline__ uint32_t PairMask(int count) {
  return count >= 2 ? ~0u : count == 1 ? 0xffffu : 0u;
}

// Transposes an 8 x 8 matrix of halves held two to a lane.
__device__ __forceinline__ uint32_t Transpose(uint32_t pair) {
  uint32_t result;
  asm("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(result) : "r"(pair));
  return result;
}

// Queries of one kv head as the operand of S^T = K Q^T; columns past the group are zero.
using Queries = uint32_t[kHeadDim / 16][2];

__device__ __forceinline__ void LoadQueries(const __nv_bfloat16* first, int group, int lane,
                                            Queries& queries) {
  const int query = lane / 4;
  const __nv_bfloat16* q = first + query * kHeadDim + lane % 4 * 2;
#pragma unroll
  for (int i = 0; i < kHeadDim / 16; ++i) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      queries[i][half] = query < group ? *reinterpret_cast<const uint32_t*>(q + i * 16 + half * 8) : 0u;
    }
  }
}

// A tile's weights as the operand of O^T = V^T P^T, and of the lane's columns 2 (lane % 4) + {0, 1} the
// maxima they were taken against and their sums.
struct Weights {
  uint32_t p[2];
  int maximum[2];
  float sum[2];
};

// Where a lane finds, in the tile that a Tile names, the row of 16 bytes that it hands to ldmatrix for 16
// dimensions: Key(slab, lane) and Value(slab, lane), of dimensions 16 slab on. Keys are taken as they lie,
// values transposed.

// Scores of a tile, of which the first `valid` tokens count.
template <class Tile>
__device__ __forceinline__ Weights WeighTile(const Tile& tile, int valid, float scale, int lane,
                                             const Queries& queries) {
  float even[4] = {}, odd[4] = {};
#pragma unroll
  for (int i = 0; i < kHeadDim / 16; ++i) {
    uint32_t a[4];
    LoadMatrices(tile.Key(i, lane), a);
    MultiplyAdd(a, queries[i][0], queries[i][1], i % 2 == 0 ? even : odd);
  }
  // score[2 i + j]: token lane / 4 + 8 i, column 2 (lane % 4) + j.
  float score[4], highest[2];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    score[i] = lane / 4 + i / 2 * 8 < valid ? (even[i] + odd[i]) * scale : -INFINITY;
  }
#pragma unroll
  for (int j = 0; j < 2; ++j) highest[j] = fmaxf(score[j], score[j + 2]);
#pragma unroll
  for (int offset = 4; offset < 32; offset *= 2) {
#pragma unroll
    for (int j = 0; j < 2; ++j) highest[j] = fmaxf(highest[j], __shfl_xor_sync(~0u, highest[j], offset));
  }
  Weights weights;
#pragma unroll
  for (int j = 0; j < 2; ++j) {
    weights.maximum[j] = min(max(__float2int_ru(highest[j]), kNoMaximum), -kNoMaximum);
    score[j] = Exp2(score[j] - static_cast<float>(weights.maximum[j]));
    score[j + 2] = Exp2(score[j + 2] - static_cast<float>(weights.maximum[j]));
    weights.sum[j] = score[j] + score[j + 2];
  }
  weights.p[0] = Transpose(Pack(score[0], score[1]));
  weights.p[1] = Transpose(Pack(score[2], score[3]));
#pragma unroll
  for (int offset = 4; offset < 32; offset *= 2) {
#pragma unroll
    for (int j = 0; j < 2; ++j) weights.sum[j] += __shfl_xor_sync(~0u, weights.sum[j], offset);
  }
  return weights;
}

// Sums over some tokens as the lanes of a warp hold them, for 16 kSlabs dimensions and the lane's columns:
// value[i] is the accumulator of mma, (d, column 0), (d, column 1), (d + 8, column 0), (d + 8, column 1), d =
// 16 i + lane / 4.
template <int kSlabs>
struct Sums {
  float value[kSlabs][4];
  float weight[2];
  int maximum[2];

  __device__ void Clear() {
#pragma unroll
    for (int i = 0; i < kSlabs * 4; ++i) value[i / 4][i % 4] = 0.0f;
    weight[0] = weight[1] = 0.0f;
    maximum[0] = maximum[1] = kNoMaximum;
  }

  // Raises the maxima.
  __device__ void Rescale(int to0, int to1) {
    const float scale[2] = {PowerOfTwo(maximum[0] - to0), PowerOfTwo(maximum[1] - to1)};
    maximum[0] = to0;
    maximum[1] = to1;
#pragma unroll
    for (int j = 0; j < 2; ++j) weight[j] *= scale[j];
#pragma unroll
    for (int i = 0; i < kSlabs * 4; ++i) value[i / 4][i % 4] *= scale[i % 2];
  }

  // The maxima are at least those of `other`.
  __device__ void Add(const float (&other)[kSlabs][4], const float (&other_weight)[2],
                      const int (&other_maximum)[2]) {
    float scale[2];
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      scale[j] = PowerOfTwo(other_maximum[j] - maximum[j]);
      weight[j] = fmaf(other_weight[j], scale[j], weight[j]);
    }
#pragma unroll
    for (int i = 0; i < kSlabs * 4; ++i) {
      value[i / 4][i % 4] = fmaf(other[i / 4][i % 4], scale[i % 2], value[i / 4][i % 4]);
    }
  }

  __device__ void Fold(const Sums& next) {
    Rescale(max(maximum[0], next.maximum[0]), max(maximum[1], next.maximum[1]));
    Add(next.value, next.weight, next.maximum);
  }

  // Adds the values of a tile, those from dimension 16 first_slab on, weighted. The maxima are at least those
  // of `weights`. Values of tokens that do not count are taken as zero.
  template <bool kWhole = true, class Tile>
  __device__ void AddTile(const Tile& tile, int first_slab, int lane, const Weights& weights,
                          int valid = kTile) {
    float products[kSlabs][4] = {};
    const uint32_t counts[2] = {PairMask(valid - lane % 4 * 2), PairMask(valid - lane % 4 * 2 - 8)};
#pragma unroll
    for (int i = 0; i < kSlabs; ++i) {
      uint32_t a[4];
      LoadMatricesTransposed(tile.Value(first_slab + i, lane), a);
      if constexpr (!kWhole) {
#pragma unroll
        for (int j = 0; j < 4; ++j) a[j] &= counts[j / 2];
      }
      MultiplyAdd(a, weights.p[0], weights.p[1], products[i]);
    }
    Add(products, weights.sum, weights.maximum);
  }
};

}  // namespace yoio::kernels::cuda::decode

#endif  // YOIO_KERNELS_CUDA_ATTENTION_DECODE_MATH_CUH_
