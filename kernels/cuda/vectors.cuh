// Sixteen bytes at a time: what every bandwidth-bound kernel reads and writes.
#ifndef YOIO_KERNELS_CUDA_VECTORS_CUH_
#define YOIO_KERNELS_CUDA_VECTORS_CUH_

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cstdint>

namespace yoio::kernels::cuda {

inline constexpr int kVector = 8;  // bf16 in sixteen bytes, and how many values a thread handles together

// Whether `data` and everything a multiple of `stride` bf16 behind it can be read as vectors.
inline bool IsVectorAligned(const void* data, int64_t stride) {
  return reinterpret_cast<uintptr_t>(data) % sizeof(uint4) == 0 && stride % kVector == 0;
}

// bf16 is the upper half of a float.
__device__ __forceinline__ void Widen(uint4 packed, float (&values)[kVector]) {
  const uint32_t words[] = {packed.x, packed.y, packed.z, packed.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    values[2 * i] = __uint_as_float(words[i] << 16);
    values[2 * i + 1] = __uint_as_float(words[i] & 0xffff0000u);
  }
}

// Rounds to nearest; the first value goes to the lower half.
__device__ __forceinline__ uint32_t NarrowPair(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  return *reinterpret_cast<const uint32_t*>(&pair);
}

__device__ __forceinline__ uint4 Narrow(const float (&values)[kVector]) {
  return {NarrowPair(values[0], values[1]), NarrowPair(values[2], values[3]),
          NarrowPair(values[4], values[5]), NarrowPair(values[6], values[7])};
}

__device__ __forceinline__ void LoadFloats(const float* data, float (&values)[kVector]) {
  const float4 low = reinterpret_cast<const float4*>(data)[0],
               high = reinterpret_cast<const float4*>(data)[1];
  values[0] = low.x, values[1] = low.y, values[2] = low.z, values[3] = low.w;
  values[4] = high.x, values[5] = high.y, values[6] = high.z, values[7] = high.w;
}

__device__ __forceinline__ void StoreFloats(const float (&values)[kVector], float* data) {
  reinterpret_cast<float4*>(data)[0] = {values[0], values[1], values[2], values[3]};
  reinterpret_cast<float4*>(data)[1] = {values[4], values[5], values[6], values[7]};
}

}  // namespace yoio::kernels::cuda

#endif  // YOIO_KERNELS_CUDA_VECTORS_CUH_
