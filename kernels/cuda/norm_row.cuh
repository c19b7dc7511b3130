// A row of ResidualRmsNorm that one block holds in registers, eight values a thread.
#ifndef YOIO_KERNELS_CUDA_NORM_ROW_CUH_
#define YOIO_KERNELS_CUDA_NORM_ROW_CUH_

#include "kernels/cuda/block_sum.cuh"
#include "kernels/cuda/vectors.cuh"
#include "kernels/ops.h"

namespace yoio::kernels::cuda {

// out = x / sqrt(mean(x^2) + eps) * weight, as far as there is a weight. For all threads of the block: those
// that are not `inside` hold zeros. `place`: of the thread's values in args.out.
__device__ __forceinline__ void WriteNormed(const ResidualRmsNormArgs& args, bool inside, int64_t place,
                                            const float (&weight)[kVector], float (&x)[kVector]) {
  if (args.weight == nullptr) return;
  float squares = 0.0f;
#pragma unroll
  for (int i = 0; i < kVector; ++i) squares += x[i] * x[i];
  const float scale = rsqrtf(BlockSum(squares) / static_cast<float>(args.hidden) + args.eps);
  if (!inside) return;
#pragma unroll
  for (int i = 0; i < kVector; ++i) x[i] *= scale * weight[i];
  *reinterpret_cast<uint4*>(Halves(args.out) + place) = Narrow(x);
}

}  // namespace yoio::kernels::cuda

#endif  // YOIO_KERNELS_CUDA_NORM_ROW_CUH_
