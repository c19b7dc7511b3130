// The warp's matrix product of bf16 and what feeds it: shared memory filled by asynchronous copies, read as
// fragments. Everything here exists from sm_80 on.
//
// A fragment of mma.m16n8k16, lane l = 4 g + t: of A (16 x 16) the pairs of columns 2t and 2t + 8 in rows g
// and g + 8; of B (16 x 8) the pairs of rows 2t and 2t + 8 in column g; of C (16 x 8) the columns 2t and 2t +
// 1 of row g, then of row g + 8.
#ifndef YOIO_KERNELS_CUDA_MMA_CUH_
#define YOIO_KERNELS_CUDA_MMA_CUH_

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cstdint>

namespace yoio::kernels::cuda {

// Columns of a panel of a tile (below) with rows of kDim.
template <int kDim>
inline constexpr int kPanelWidth = kDim < 64 ? kDim : 64;

// A tile of kRows rows of kDim bf16 in shared memory, in panels of 64 columns: where the 16 bytes `chunk` of
// `row` lie, in elements. Eight rows' equal chunks, and a row's neighbouring ones, fall into different banks.
// A panel of full width begins at a multiple of 1024 bytes and is what wgmma calls the 128-byte swizzle.
template <int kDim, int kRows>
__device__ __forceinline__ int TilePlace(unsigned row, unsigned chunk) {
  constexpr unsigned kChunks = kPanelWidth<kDim> / 8;  // of a panel's row
  constexpr unsigned kRowsPerLine = 8 / kChunks;       // a line is the 128 bytes of all banks
  const unsigned panel = chunk / kChunks, in_panel = chunk % kChunks;
  return (panel * kRows + row) * kChunks * 8 + (in_panel ^ (row / kRowsPerLine % kChunks)) * 8;
}

// 16 bytes to shared memory, behind the thread's back; zeros when not `valid`, and then nothing is read.
__device__ __forceinline__ void CopyAsync(__nv_bfloat16* shared, const __nv_bfloat16* global, bool valid) {
  const uint32_t to = static_cast<uint32_t>(__cvta_generic_to_shared(shared));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(global), "r"(valid ? 16 : 0)
               : "memory");
}

// Waits for all copies of this thread.
__device__ __forceinline__ void WaitForCopies() { asm volatile("cp.async.wait_all;" ::: "memory"); }

// Four 8 x 8 matrices, whose rows lanes 0-7, 8-15, ... point at.
__device__ __forceinline__ void LoadMatrices(const __nv_bfloat16* row, uint32_t (&out)[4]) {
  const uint32_t from = static_cast<uint32_t>(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
               : "r"(from)
               : "memory");
}

__device__ __forceinline__ void LoadMatricesTransposed(const __nv_bfloat16* row, uint32_t (&out)[4]) {
  const uint32_t from = static_cast<uint32_t>(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
               : "r"(from)
               : "memory");
}

// c += a b.
__device__ __forceinline__ void MultiplyAdd(const uint32_t (&a)[4], uint32_t b0, uint32_t b1, float (&c)[4]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, "
      "%2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// 2^x to two units in the last place; 0 for -infinity.
__device__ __forceinline__ float Exp2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

}  // namespace yoio::kernels::cuda

#endif  // YOIO_KERNELS_CUDA_MMA_CUH_
