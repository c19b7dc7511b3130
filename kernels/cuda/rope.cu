// RopeTable: cos and sin of position * theta^(-2j / head_dim), [num_tokens, head_dim / 2], once a step.
// HeadNormRope: RMSNorm of each query and key head, then the rotation of its two halves, in place.
//
// Floor of HeadNormRope: 4 bytes an element: 34 us for 8192 rows of 24 heads x 128 at 3 TB/s; latency alone
// for the few rows of a decode step. A group of lanes holds a head, each lane the same eight columns of both
// halves: what a rotation mixes stays in one thread, and the sum of squares takes a few shuffles.
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/vectors.cuh"

namespace yoio::kernels::cuda {
namespace {

constexpr int kWarp = 32;
constexpr int kThreads = 128;
// From this many rows on, a thread takes several heads of a row, which share the row's angles. Before, a
// thread a head is faster: what counts is the length of the chain. No bit depends on it.
constexpr int kManyRows = 1024;
constexpr int kHeadsOfManyRows = 2;

__global__ void RopeTableKernel(RopeTableArgs args) {
  AllowNext();
  WaitForPrevious();
  const int half = args.head_dim / 2;
  for (int j = threadIdx.x; j < half; j += blockDim.x) {
    const double frequency = pow(args.theta, -2.0 * j / args.head_dim);
    for (int64_t i = blockIdx.x; i < args.num_tokens; i += gridDim.x) {
      double sin, cos;
      sincos(args.positions[i] * frequency, &sin, &cos);
      args.cos[i * half + j] = static_cast<float>(cos);
      args.sin[i * half + j] = static_cast<float>(sin);
    }
  }
}

// Columns j and half + j of one head, for eight j.
struct HeadPart {
  float low[kVector];
  float high[kVector];
};

__device__ __forceinline__ void Load(const __nv_bfloat16* data, int half, HeadPart& part) {
  Widen(*reinterpret_cast<const uint4*>(data), part.low);
  Widen(*reinterpret_cast<const uint4*>(data + half), part.high);
}

__device__ __forceinline__ void Load(const float* data, int half, HeadPart& part) {
  LoadFloats(data, part.low);
  LoadFloats(data + half, part.high);
}

__device__ __forceinline__ void Store(const HeadPart& part, int half, __nv_bfloat16* data) {
  *reinterpret_cast<uint4*>(data) = Narrow(part.low);
  *reinterpret_cast<uint4*>(data + half) = Narrow(part.high);
}

// Over a head, which `lanes` neighbours hold. Every lane of the warp takes part.
__device__ __forceinline__ float SumOfSquares(const HeadPart& part, int lanes) {
  float sum = 0.0f;
#pragma unroll
  for (int i = 0; i < kVector; ++i) sum += part.low[i] * part.low[i];
#pragma unroll
  for (int i = 0; i < kVector; ++i) sum += part.high[i] * part.high[i];
  for (int mask = lanes / 2; mask > 0; mask /= 2) sum += __shfl_xor_sync(~0u, sum, mask);
  return sum;
}

__device__ __forceinline__ void Scale(const HeadPart& weight, float scale, HeadPart& part) {
#pragma unroll
  for (int i = 0; i < kVector; ++i) {
    part.low[i] *= scale * weight.low[i];
    part.high[i] *= scale * weight.high[i];
  }
}

__device__ __forceinline__ void Rotate(const float (&cos)[kVector], const float (&sin)[kVector],
                                       HeadPart& part) {
#pragma unroll
  for (int i = 0; i < kVector; ++i) {
    const float a = part.low[i], b = part.high[i];
    part.low[i] = a * cos[i] - b * sin[i];
    part.high[i] = b * cos[i] + a * sin[i];
  }
}

// `lanes` neighbours take kHeads consecutive heads of one row, all of them query heads or all of them key
// heads.
template <int kHeads>
__global__ void __launch_bounds__(kThreads) NormRopeVectors(HeadNormRopeArgs args, int lanes) {
  AllowNext();
  const int q_groups = (args.q_heads + kHeads - 1) / kHeads, k_groups = (args.k_heads + kHeads - 1) / kHeads;
  const int64_t group = (int64_t{blockIdx.x} * kThreads + threadIdx.x) / lanes;
  const int64_t row = group / (q_groups + k_groups);
  const int group_in_row = group % (q_groups + k_groups);
  const bool is_query = group_in_row < q_groups;
  const int first = is_query ? group_in_row * kHeads : args.q_heads + (group_in_row - q_groups) * kHeads;
  const int end = is_query ? args.q_heads : args.q_heads + args.k_heads;
  const int half = args.head_dim / 2, column = threadIdx.x % lanes * kVector;
  const bool inside = row < args.num_rows && column < half;

  const float* weights = is_query ? args.q_weight : args.k_weight;
  HeadPart weight;
  if (inside && weights != nullptr) Load(weights + column, half, weight);
  WaitForPrevious();
  __nv_bfloat16* x = Halves(args.x) + row * args.row_stride + first * args.head_dim + column;
  HeadPart parts[kHeads] = {};
  float cos[kVector], sin[kVector];
  if (inside) {
#pragma unroll
    for (int h = 0; h < kHeads; ++h) {
      if (first + h < end) Load(x + h * args.head_dim, half, parts[h]);
    }
    if (args.cos != nullptr) {
      LoadFloats(args.cos + row * half + column, cos);
      LoadFloats(args.sin + row * half + column, sin);
    }
  }
#pragma unroll
  for (int h = 0; h < kHeads; ++h) {
    const float squares = SumOfSquares(parts[h], lanes);
    if (!inside || first + h >= end) continue;
    if (weights != nullptr) {
      Scale(weight, rsqrtf(squares / static_cast<float>(args.head_dim) + args.eps), parts[h]);
    }
    if (args.cos != nullptr) Rotate(cos, sin, parts[h]);
    Store(parts[h], half, x + h * args.head_dim);
  }
}

// Heads of any even width: a warp a head, a value at a time, read twice.
__global__ void __launch_bounds__(kThreads) NormRopeValues(HeadNormRopeArgs args) {
  AllowNext();
  WaitForPrevious();
  const int lane = threadIdx.x % kWarp, heads = args.q_heads + args.k_heads, half = args.head_dim / 2;
  const int64_t index = int64_t{blockIdx.x} * (kThreads / kWarp) + threadIdx.x / kWarp;
  const int64_t row = index / heads;
  const int head = index % heads;
  if (row >= args.num_rows) return;
  const float* weight = head < args.q_heads ? args.q_weight : args.k_weight;
  __nv_bfloat16* x = Halves(args.x) + row * args.row_stride + head * args.head_dim;
  float squares = 0.0f;
  for (int j = lane; j < args.head_dim; j += kWarp)
    squares += __bfloat162float(x[j]) * __bfloat162float(x[j]);
#pragma unroll
  for (int mask = kWarp / 2; mask > 0; mask /= 2) squares += __shfl_xor_sync(~0u, squares, mask);
  const float scale = rsqrtf(squares / static_cast<float>(args.head_dim) + args.eps);
  for (int j = lane; j < half; j += kWarp) {
    float a = __bfloat162float(x[j]), b = __bfloat162float(x[half + j]);
    if (weight != nullptr) a *= scale * weight[j], b *= scale * weight[half + j];
    const float cos = args.cos != nullptr ? args.cos[row * half + j] : 1.0f;
    const float sin = args.sin != nullptr ? args.sin[row * half + j] : 0.0f;
    x[j] = __float2bfloat16_rn(a * cos - b * sin);
    x[half + j] = __float2bfloat16_rn(b * cos + a * sin);
  }
}

}  // namespace

void RopeTable(const RopeTableArgs& args, CudaStream& stream) {
  const unsigned threads = args.head_dim / 2 > 64 ? 128 : 64;
  const unsigned blocks = args.num_tokens < 1056 ? args.num_tokens : 1056;
  Launch(stream, "RopeTable", RopeTableKernel, {blocks, threads}, args);
}

void HeadNormRope(const HeadNormRopeArgs& args, CudaStream& stream) {
  const int64_t heads = args.q_heads + args.k_heads;
  const int half = args.head_dim / 2;
  if (args.head_dim % (2 * kVector) != 0 || half > kWarp * kVector ||
      !IsVectorAligned(args.x, args.row_stride)) {
    constexpr int kPerBlock = kThreads / kWarp;
    const unsigned blocks = (args.num_rows * heads + kPerBlock - 1) / kPerBlock;
    Launch(stream, "HeadNormRope", NormRopeValues, {blocks, kThreads}, args);
    return;
  }
  int lanes = 1;
  while (lanes * kVector < half) lanes *= 2;
  const bool many = args.num_rows >= kManyRows;
  const int per_group = many ? kHeadsOfManyRows : 1;
  const int64_t groups =
      (args.q_heads + per_group - 1) / per_group + (args.k_heads + per_group - 1) / per_group;
  const unsigned blocks = (args.num_rows * groups * lanes + kThreads - 1) / kThreads;
  Launch(stream, "HeadNormRope", many ? NormRopeVectors<kHeadsOfManyRows> : NormRopeVectors<1>,
         {blocks, kThreads}, args, lanes);
}

}  // namespace yoio::kernels::cuda
