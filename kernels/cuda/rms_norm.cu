// ResidualRmsNorm: x += delta, then out = x / sqrt(mean(x^2) + eps) * weight, for [num_rows, hidden].
//
// Floor: 12 bytes an element (x read and written in float, delta and out in bf16): 84 us for 8192 rows of
// 2560 at 3 TB/s. For the few rows of a decode step it is latency alone, and this runs twice a layer: one
// block a row, one pass, the row in registers between its sum of squares and its scaling, and the weight
// loaded while the kernel before still runs.
#include "kernels/cuda/block_sum.cuh"
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/norm_row.cuh"
#include "kernels/cuda/vectors.cuh"

namespace yoio::kernels::cuda {
namespace {

// A row a block, eight values a thread.
__global__ void __launch_bounds__(kMostBlockThreads) NormVectors(ResidualRmsNormArgs args) {
  AllowNext();
  const int column = threadIdx.x * kVector;
  const int64_t place = int64_t{blockIdx.x} * args.hidden + column;
  const bool inside = column < args.hidden;
  float weight[kVector], x[kVector] = {};
  if (inside && args.weight != nullptr) LoadFloats(args.weight + column, weight);
  WaitForPrevious();
  if (inside) {
    if (!args.starts) LoadFloats(args.x + place, x);
    if (args.delta != nullptr) {
      float delta[kVector];
      Widen(*reinterpret_cast<const uint4*>(Halves(args.delta) + place), delta);
#pragma unroll
      for (int i = 0; i < kVector; ++i) x[i] += delta[i];
      StoreFloats(x, args.x + place);
    }
  }
  WriteNormed(args, inside, place, weight, x);
}

// Rows of any width: a value at a time, read twice.
__global__ void __launch_bounds__(kMostBlockThreads) NormValues(ResidualRmsNormArgs args) {
  AllowNext();
  WaitForPrevious();
  const int64_t row = int64_t{blockIdx.x} * args.hidden;
  float squares = 0.0f;
  for (int j = threadIdx.x; j < args.hidden; j += blockDim.x) {
    float x = args.starts ? 0.0f : args.x[row + j];
    if (args.delta != nullptr) args.x[row + j] = x += __bfloat162float(Halves(args.delta)[row + j]);
    squares += x * x;
  }
  if (args.weight == nullptr) return;
  const float scale = rsqrtf(BlockSum(squares) / static_cast<float>(args.hidden) + args.eps);
  for (int j = threadIdx.x; j < args.hidden; j += blockDim.x) {
    Halves(args.out)[row + j] = __float2bfloat16_rn(args.x[row + j] * (scale * args.weight[j]));
  }
}

}  // namespace

void ResidualRmsNorm(const ResidualRmsNormArgs& args, CudaStream& stream) {
  const unsigned rows = args.num_rows;
  const int threads = (args.hidden / kVector + kWarp - 1) / kWarp * kWarp;
  if (args.hidden % kVector == 0 && threads <= kMostBlockThreads) {
    Launch(stream, "ResidualRmsNorm", NormVectors, {rows, static_cast<unsigned>(threads)}, args);
  } else {
    Launch(stream, "ResidualRmsNorm", NormValues, {rows, 256}, args);
  }
}

}  // namespace yoio::kernels::cuda
