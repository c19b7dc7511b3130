// Products of at most kSkinnyRows rows: bound by reading W once.
#ifndef YOIO_KERNELS_CUDA_MAT_MUL_SKINNY_H_
#define YOIO_KERNELS_CUDA_MAT_MUL_SKINNY_H_

#include <cstdint>

#include "kernels/cuda/cuda_stream.h"
#include "kernels/ops.h"

namespace yoio::kernels::cuda {

inline constexpr int kSkinnyRows = 64;

enum class SkinnyOutput { kBF16, kF32, kGated };

struct SkinnyProduct {
  const void* x;  // bf16 [rows, k]
  int64_t x_stride;
  const void* w;    // bf16 [outputs, k]; [2 * outputs, k] for kGated
  int64_t outputs;  // columns of y
  int64_t k;        // a multiple of 8
  int rows;         // 1 .. kSkinnyRows
  SkinnyOutput output;
  void* y;
  int64_t y_stride;
};

// Whether the current device has what the kernel is made of: clusters and bulk copies (sm_90).
bool SkinnyRuns();
// A row's bits do not depend on `rows`.
void MultiplySkinny(const SkinnyProduct& product, CudaStream& stream);

}  // namespace yoio::kernels::cuda

#endif  // YOIO_KERNELS_CUDA_MAT_MUL_SKINNY_H_
