// A CUDA stream with what its operations need beside it: a cuBLASLt handle, scratch memory, and the first
// error of any launch.
#ifndef YOIO_KERNELS_CUDA_CUDA_STREAM_H_
#define YOIO_KERNELS_CUDA_CUDA_STREAM_H_

#include <cublasLt.h>
#include <cuda_runtime_api.h>

#include <cstddef>
#include <memory>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/check.h"
#include "kernels/backend.h"
#include "kernels/cuda/mat_mul_library.h"
#include "kernels/cuda/status.h"

namespace yoio::kernels::cuda {

// Scratch of one stream, all of it device memory. Operations run in stream order, so each may use all of it;
// nothing in it survives an operation but the counters, which every kernel leaves at zero as it found them.
inline constexpr size_t kScratchBytes = size_t{96} << 20;
inline constexpr size_t kBlasScratchBytes = size_t{32} << 20;
inline constexpr int kNumCounters = 16384;

class CudaStream final : public Stream {
 public:
  // Makes `device` the calling thread's current one.
  static absl::StatusOr<std::unique_ptr<CudaStream>> Create(int device);
  ~CudaStream() override;

  // The stream beside this one, made at the first call. What is queued there gets free multiprocessors first:
  // it is short, and this stream waits for it.
  absl::StatusOr<Stream*> Side();
  void WaitFor(CudaStream& other);

  cudaStream_t get() const { return stream_; }
  int multiprocessors() const { return multiprocessors_; }
  int memory_clock() const { return memory_clock_; }  // kHz; 0 when the driver does not tell
  cublasLtHandle_t blas() const { return blas_; }
  void* blas_scratch() const { return blas_scratch_; }
  LibraryProducts& products() { return products_; }

  // At least `count` values, 256-byte aligned.
  template <typename T>
  T* Scratch(size_t count) const {
    YOIO_CHECK_LE(count * sizeof(T), kScratchBytes);
    return static_cast<T*>(scratch_);
  }
  // Zeros, [kNumCounters].
  unsigned* counters() const { return counters_; }

  // Keeps the first error.
  void Note(cudaError_t error, std::string_view what) {
    if (error != cudaSuccess) status_.Update(ToStatus(error, what));
  }
  void Note(cublasStatus_t error, std::string_view what);
  const absl::Status& status() const { return status_; }

 private:
  CudaStream() = default;
  static absl::StatusOr<std::unique_ptr<CudaStream>> CreateWithPriority(int device, int priority);

  int device_ = 0;
  int multiprocessors_ = 0;
  int memory_clock_ = 0;
  cudaStream_t stream_ = nullptr;
  cudaEvent_t mark_ = nullptr;  // where others wait for this stream
  std::unique_ptr<CudaStream> side_;
  cublasLtHandle_t blas_ = nullptr;
  void* blas_scratch_ = nullptr;
  LibraryProducts products_;
  void* scratch_ = nullptr;
  unsigned* counters_ = nullptr;
  absl::Status status_;
};

}  // namespace yoio::kernels::cuda

#endif  // YOIO_KERNELS_CUDA_CUDA_STREAM_H_
