// Products of many rows: cuBLASLt, with one choice of algorithm kept for each shape.
#ifndef YOIO_KERNELS_CUDA_MAT_MUL_LIBRARY_H_
#define YOIO_KERNELS_CUDA_MAT_MUL_LIBRARY_H_

#include <cublasLt.h>
#include <cuda_runtime_api.h>

#include <compare>
#include <cstddef>
#include <cstdint>
#include <map>
#include <vector>

#include "kernels/ops.h"

namespace yoio::kernels::cuda {

// y [rows, n] = x [rows, k] w [n, k]^T, bf16 with float sums.
struct LibraryProduct {
  const void* x;
  int64_t x_stride;
  const void* w;
  int64_t n;
  int64_t k;
  int64_t rows;
  void* y;
  DType y_type;
  int64_t y_stride;
};

// Belongs to one stream and, like it, to one thread.
class LibraryProducts {
 public:
  LibraryProducts() = default;
  LibraryProducts(const LibraryProducts&) = delete;
  LibraryProducts& operator=(const LibraryProducts&) = delete;

  cublasStatus_t Multiply(const LibraryProduct& product, cublasLtHandle_t library, void* scratch,
                          size_t scratch_bytes, cudaStream_t stream);

  // Backend::KindsOfRows.
  static std::vector<int> KindsOfRows(int most);

 private:
  struct Key {
    int64_t n, k, rows, x_stride, y_stride;
    DType y_type;

    auto operator<=>(const Key&) const = default;
  };

  std::map<Key, cublasLtMatmulAlgo_t> algorithms_;
};

}  // namespace yoio::kernels::cuda

#endif  // YOIO_KERNELS_CUDA_MAT_MUL_LIBRARY_H_
