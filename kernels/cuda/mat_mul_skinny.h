// Products of at most kSkinnyRows rows: bound by reading W once.
#ifndef YOIO_KERNELS_CUDA_MAT_MUL_SKINNY_H_
#define YOIO_KERNELS_CUDA_MAT_MUL_SKINNY_H_

#include <cstdint>

#include "kernels/cuda/cuda_stream.h"
#include "kernels/ops.h"

namespace yoio::kernels::cuda {

inline constexpr int kSkinnyRows = 64;

// How one product is cut.
struct SkinnyPlan {
  int units;   // groups of 16 rows of W in a tile
  int groups;  // parts of k within a block, which has a warp for each unit and part
  int splits;  // parts of k among the blocks of a cluster
  int block_bytes;
};

// `units`: groups of 16 rows of W in all. The product groups * splits depends on units and k alone.
SkinnyPlan PlanSkinny(int64_t units, int64_t k, int rows);

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
void MultiplySkinny(const SkinnyProduct& product, CudaStream& stream);
void MultiplySkinny(const SkinnyPlan& plan, const SkinnyProduct& product, CudaStream& stream);

}  // namespace yoio::kernels::cuda

#endif  // YOIO_KERNELS_CUDA_MAT_MUL_SKINNY_H_
