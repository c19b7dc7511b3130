// The two products behind MatMul. In both a row's bits depend on nothing but that row and the weights
// (invariant I5).
#ifndef YOIO_KERNELS_CPU_MAT_MUL_H_
#define YOIO_KERNELS_CPU_MAT_MUL_H_

#include "kernels/cpu/cpu_ops.h"
#include "kernels/ops.h"

namespace yoio::kernels::cpu {

// y = x W^T for rows of one kind.
struct Product {
  const float* x;  // row i at x + i * x_stride, k = w.cols
  int64_t x_stride;
  Matrix w;  // [n, k]
  int num_rows;
  float* y;  // row i at y + i * y_stride, n = w.rows
  int64_t y_stride;
};

// For many rows: OpenBLAS, one column tile of the weights at a time, widened to fp32. Falls back to
// SkinnyMatMul where the library cannot keep I5: see LibraryKeepsRows.
void BlockedMatMul(const Product& args, CpuStream& stream);

// For few rows: reads the weights once per 64 rows, at the speed of memory when rows are few.
void SkinnyMatMul(const Product& args, CpuStream& stream);

// Whether OpenBLAS, with the kernels it chose for this processor, gives a row the same bits in whatever
// company it is multiplied. Its AVX-512 kernels do; those for AVX2 sum the rows of one register tile in
// different orders. Probed once per process, a few milliseconds.
bool LibraryKeepsRows();

}  // namespace yoio::kernels::cpu

#endif  // YOIO_KERNELS_CPU_MAT_MUL_H_
