// How every kernel is launched, and the few device functions that all kernels share.
//
// Programmatic dependent launch (CUDA C++ programming guide, section of that name): a kernel may start while
// the one before it still runs. The rules here make that safe:
//   - every kernel calls AllowNext() once, at its start, in every thread;
//   - every kernel calls WaitForPrevious() in every thread before it touches memory that any operation may
//     have written, and before it writes anything. Only weights, which nothing writes, may be read earlier.
// WaitForPrevious returns when the previous kernel has ended and its writes are visible; that kernel had
// waited for its own predecessor, so everything before it has ended too.
#ifndef YOIO_KERNELS_CUDA_LAUNCH_CUH_
#define YOIO_KERNELS_CUDA_LAUNCH_CUH_

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/cuda/cuda_stream.h"
#include "kernels/ops.h"

namespace yoio::kernels::cuda {

__host__ __device__ inline __nv_bfloat16* Halves(Activation* data) {
  return reinterpret_cast<__nv_bfloat16*>(data);
}
__host__ __device__ inline const __nv_bfloat16* Halves(const Activation* data) {
  return reinterpret_cast<const __nv_bfloat16*>(data);
}

struct LaunchShape {
  dim3 grid;
  dim3 block;
  size_t shared_bytes = 0;  // dynamic; above 48 KiB the kernel's limit is raised at its first launch
  int cluster = 1;          // blocks in a cluster, along x
};

// Queues kernel(args...). An empty grid is no launch.
template <typename... Params, typename... Args>
void Launch(CudaStream& stream, const char* name, void (*kernel)(Params...), const LaunchShape& shape,
            Args&&... args) {
  if (shape.grid.x == 0 || shape.grid.y == 0 || shape.grid.z == 0) return;
  if (shape.shared_bytes > (size_t{48} << 10)) {
    stream.Note(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                     static_cast<int>(shape.shared_bytes)),
                name);
  }
  cudaLaunchAttribute attributes[2];
  attributes[0].id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attributes[0].val.programmaticStreamSerializationAllowed = 1;
  attributes[1].id = cudaLaunchAttributeClusterDimension;
  attributes[1].val.clusterDim = {static_cast<unsigned>(shape.cluster), 1, 1};
  cudaLaunchConfig_t config{};
  config.gridDim = shape.grid;
  config.blockDim = shape.block;
  config.dynamicSmemBytes = shape.shared_bytes;
  config.stream = stream.get();
  config.attrs = attributes;
  config.numAttrs = shape.cluster > 1 ? 2 : 1;
  if (shape.cluster > 8) {
    stream.Note(cudaFuncSetAttribute(kernel, cudaFuncAttributeNonPortableClusterSizeAllowed, 1), name);
  }
  stream.Note(cudaLaunchKernelEx(&config, kernel, static_cast<Params>(args)...), name);
}

// Lets the next kernel of the stream start its prologue once all blocks of this one have come this far.
__device__ __forceinline__ void AllowNext() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

// Waits until everything queued before this kernel has run.
__device__ __forceinline__ void WaitForPrevious() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

}  // namespace yoio::kernels::cuda

#endif  // YOIO_KERNELS_CUDA_LAUNCH_CUH_
