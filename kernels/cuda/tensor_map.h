// Maps of tensors in device memory, from which bulk copies take boxes.
#ifndef YOIO_KERNELS_CUDA_TENSOR_MAP_H_
#define YOIO_KERNELS_CUDA_TENSOR_MAP_H_

#include <cuda.h>

#include <cstdint>
#include <initializer_list>

#include "kernels/cuda/cuda_stream.h"

namespace yoio::kernels::cuda {

// A bf16 tensor of up to five dimensions, the innermost first, and the boxes that it is read in. A box is 64
// elements wide; its rows of 128 bytes lie one behind the other in shared memory, from a multiple of 1024
// bytes on, with the 16 bytes `chunk` of row i at chunk ^ i % 8: eight rows' equal chunks are in different
// banks.
struct BoxedTensor {
  const void* data;
  std::initializer_list<int64_t> sizes;
  std::initializer_list<int64_t> strides;  // bytes, multiples of 16; without the innermost
  std::initializer_list<int64_t> box;
};

// An error is noted in the stream.
CUtensorMap MapBoxes(const BoxedTensor& tensor, CudaStream& stream);

}  // namespace yoio::kernels::cuda

#endif  // YOIO_KERNELS_CUDA_TENSOR_MAP_H_
