#include "kernels/cuda/mat_mul_library.h"

#include <memory>
#include <type_traits>

namespace yoio::kernels::cuda {
namespace {

constexpr uint32_t kAlignment = 16;  // of every operand, in bytes

template <auto kDestroy>
struct Destroyer {
  template <typename T>
  void operator()(T* object) const {
    kDestroy(object);
  }
};
template <typename Handle, auto kDestroy>
using Owned = std::unique_ptr<std::remove_pointer_t<Handle>, Destroyer<kDestroy>>;
using Layout = Owned<cublasLtMatrixLayout_t, cublasLtMatrixLayoutDestroy>;
using Operation = Owned<cublasLtMatmulDesc_t, cublasLtMatmulDescDestroy>;
using Preference = Owned<cublasLtMatmulPreference_t, cublasLtMatmulPreferenceDestroy>;

// Row-major [rows, columns] is what the library calls column-major [columns, rows].
Layout RowMajor(cudaDataType_t type, int64_t rows, int64_t columns, int64_t stride) {
  cublasLtMatrixLayout_t layout = nullptr;
  cublasLtMatrixLayoutCreate(&layout, type, columns, rows, stride);
  return Layout(layout);
}

// W^T^T x^T = y^T in the library's order.
Operation TransposedProduct() {
  cublasLtMatmulDesc_t operation = nullptr;
  cublasLtMatmulDescCreate(&operation, CUBLAS_COMPUTE_32F, CUDA_R_32F);
  const cublasOperation_t transpose = CUBLAS_OP_T;
  cublasLtMatmulDescSetAttribute(operation, CUBLASLT_MATMUL_DESC_TRANSA, &transpose, sizeof(transpose));
  return Operation(operation);
}

// Where k is divided, the parts are added as floats, not rounded to the type of y first.
constexpr uint32_t kReductions = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;

Preference WithScratch(size_t scratch_bytes) {
  cublasLtMatmulPreference_t preference = nullptr;
  cublasLtMatmulPreferenceCreate(&preference);
  const auto set = [&](cublasLtMatmulPreferenceAttributes_t attribute, const auto& value) {
    cublasLtMatmulPreferenceSetAttribute(preference, attribute, &value, sizeof(value));
  };
  set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, scratch_bytes);
  set(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, kReductions);
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, kAlignment);
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, kAlignment);
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, kAlignment);
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, kAlignment);
  return Preference(preference);
}

// Prompts have any length. Lengths that round up to the same share one choice, so that soon every length has
// one: steps of an eighth of the power of two below.
int64_t RoundedUp(int64_t rows) {
  int64_t step = 1;
  while (step * 16 <= rows) step *= 2;
  return (rows + step - 1) / step * step;
}

}  // namespace

cublasStatus_t LibraryProducts::Multiply(const LibraryProduct& product, cublasLtHandle_t library,
                                         void* scratch, size_t scratch_bytes, cudaStream_t stream) {
  const cudaDataType_t y_type = product.y_type == DType::kF32 ? CUDA_R_32F : CUDA_R_16BF;
  const Operation operation = TransposedProduct();
  const Layout w = RowMajor(CUDA_R_16BF, product.n, product.k, product.k);
  const auto x = [&](int64_t rows) { return RowMajor(CUDA_R_16BF, rows, product.k, product.x_stride); };
  const auto y = [&](int64_t rows) { return RowMajor(y_type, rows, product.n, product.y_stride); };

  const int64_t rows = RoundedUp(product.rows);
  const auto [found, added] = algorithms_.try_emplace(
      Key{product.n, product.k, rows, product.x_stride, product.y_stride, product.y_type});
  if (added) {
    cublasLtMatmulHeuristicResult_t result = {};
    int count = 0;
    const Layout rounded_x = x(rows), rounded_y = y(rows);
    const cublasStatus_t status =
        cublasLtMatmulAlgoGetHeuristic(library, operation.get(), w.get(), rounded_x.get(), rounded_y.get(),
                                       rounded_y.get(), WithScratch(scratch_bytes).get(), 1, &result, &count);
    if (status != CUBLAS_STATUS_SUCCESS || count == 0) {
      algorithms_.erase(found);
      return status != CUBLAS_STATUS_SUCCESS ? status : CUBLAS_STATUS_NOT_SUPPORTED;
    }
    found->second = result.algo;
  }
  const float one = 1.0f, zero = 0.0f;
  const Layout exact_x = x(product.rows), exact_y = y(product.rows);
  return cublasLtMatmul(library, operation.get(), &one, product.w, w.get(), product.x, exact_x.get(), &zero,
                        product.y, exact_y.get(), product.y, exact_y.get(), &found->second, scratch,
                        scratch_bytes, stream);
}

std::vector<int> LibraryProducts::KindsOfRows(int most) {
  std::vector<int> kinds;
  for (int64_t rows = 1; rows < most; rows = RoundedUp(rows + 1)) kinds.push_back(static_cast<int>(rows));
  if (most > 0) kinds.push_back(most);
  return kinds;
}

}  // namespace yoio::kernels::cuda
