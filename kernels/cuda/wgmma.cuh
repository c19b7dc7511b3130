// The warpgroup's matrix product of bf16 (sm_90a only): 64 rows from registers times a tile in shared memory,
// added to registers while the threads go on.
//
// Fragments are those of mma.cuh, warp w of the group holding rows 16 w to 16 w + 15. Tiles in shared memory
// are panels of 64 columns (TilePlace). Between BeginProducts and WaitForProducts the registers of a product
// belong to it, those of A as well.
#ifndef YOIO_KERNELS_CUDA_WGMMA_CUH_
#define YOIO_KERNELS_CUDA_WGMMA_CUH_

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cstdint>

namespace yoio::kernels::cuda {

// Orders what other threads stored or copied to shared memory, and a barrier has shown to have come, before
// the products that follow.
__device__ __forceinline__ void SeeSharedStores() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

// What computes `c` comes before this, what reads it after: the compiler does not see that a product in
// flight still writes it.
template <int kCount>
__device__ __forceinline__ void Pin(float (&c)[kCount][4]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    asm volatile("" : "+f"(c[i][0]), "+f"(c[i][1]), "+f"(c[i][2]), "+f"(c[i][3])::"memory");
  }
}

__device__ __forceinline__ void BeginProducts() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ __forceinline__ void EndProducts() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
// Waits until no more than the last kLater groups (each from BeginProducts to EndProducts) are in flight.
template <int kLater>
__device__ __forceinline__ void WaitForProducts() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kLater) : "memory");
}

// Names the tile at `shared`: panels `panel_bytes` apart, of rows of 128 bytes.
__device__ __forceinline__ uint64_t TileDescriptor(const __nv_bfloat16* shared, int panel_bytes) {
  constexpr uint64_t kEightRows = 1024, kSwizzle128 = uint64_t{1} << 62;
  const uint64_t address = __cvta_generic_to_shared(shared);
  return (address & 0x3ffff) >> 4 | static_cast<uint64_t>(panel_bytes >> 4) << 16 | kEightRows >> 4 << 32 |
         kSwizzle128;
}

#define YOIO_C(n) "+f"(c[n][0]), "+f"(c[n][1]), "+f"(c[n][2]), "+f"(c[n][3])
#define YOIO_A "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3])

// c (64 x 64) = or += a (64 x 16) b^T: 64 rows of the tile, 16 columns from where the descriptor points.
template <bool kAdd>
__device__ __forceinline__ void MultiplyRows(const uint32_t (&a)[4], uint64_t b, float (&c)[8][4]) {
  asm volatile(
      "{\n.reg .pred add;\nsetp.ne.b32 add, %37, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 "
      "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}, "
      "{%32, %33, %34, %35}, %36, add, 1, 1, 0;\n}\n"
      : YOIO_C(0), YOIO_C(1), YOIO_C(2), YOIO_C(3), YOIO_C(4), YOIO_C(5), YOIO_C(6), YOIO_C(7)
      : YOIO_A, "l"(b), "n"(kAdd));
}

// c (64 x 128) += a (64 x 16) b: 16 rows of the tile from where the descriptor points, 128 columns in two
// panels.
__device__ __forceinline__ void MultiplyColumns(const uint32_t (&a)[4], uint64_t b, float (&c)[16][4]) {
  asm volatile(
      "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 "
      "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, "
      "%30, %31, "
      "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, "
      "%46, %47, "
      "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, "
      "%62, %63}, "
      "{%64, %65, %66, %67}, %68, 1, 1, 1, 1;\n"
      : YOIO_C(0), YOIO_C(1), YOIO_C(2), YOIO_C(3), YOIO_C(4), YOIO_C(5), YOIO_C(6), YOIO_C(7), YOIO_C(8),
        YOIO_C(9), YOIO_C(10), YOIO_C(11), YOIO_C(12), YOIO_C(13), YOIO_C(14), YOIO_C(15)
      : YOIO_A, "l"(b));
}

#undef YOIO_C
#undef YOIO_A

}  // namespace yoio::kernels::cuda

#endif  // YOIO_KERNELS_CUDA_WGMMA_CUH_
