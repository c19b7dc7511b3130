#include "kernels/cuda/cuda_stream.h"

#include "absl/strings/str_cat.h"
#include "base/status.h"

namespace yoio::kernels::cuda {

absl::StatusOr<std::unique_ptr<CudaStream>> CudaStream::Create(int device) {
  YOIO_RETURN_IF_ERROR(ToStatus(cudaSetDevice(device), "cudaSetDevice"));
  return CreateWithPriority(device, /*priority=*/0);
}

absl::StatusOr<Stream*> CudaStream::Side() {
  if (side_ == nullptr) {
    int least = 0, greatest = 0;
    YOIO_RETURN_IF_ERROR(
        ToStatus(cudaDeviceGetStreamPriorityRange(&least, &greatest), "cudaDeviceGetStreamPriorityRange"));
    YOIO_ASSIGN_OR_RETURN(side_, CreateWithPriority(device_, greatest));
  }
  return side_.get();
}

void CudaStream::WaitFor(CudaStream& other) {
  if (&other == this) return;
  Note(cudaEventRecord(other.mark_, other.stream_), "cudaEventRecord");
  Note(cudaStreamWaitEvent(stream_, other.mark_), "cudaStreamWaitEvent");
  status_.Update(other.status_);
}

absl::StatusOr<std::unique_ptr<CudaStream>> CudaStream::CreateWithPriority(int device, int priority) {
  auto stream = std::unique_ptr<CudaStream>(new CudaStream);
  stream->device_ = device;
  YOIO_RETURN_IF_ERROR(
      ToStatus(cudaDeviceGetAttribute(&stream->multiprocessors_, cudaDevAttrMultiProcessorCount, device),
               "cudaDeviceGetAttribute"));
  YOIO_RETURN_IF_ERROR(
      ToStatus(cudaDeviceGetAttribute(&stream->memory_clock_, cudaDevAttrMemoryClockRate, device),
               "cudaDeviceGetAttribute"));
  YOIO_RETURN_IF_ERROR(
      ToStatus(cudaStreamCreateWithPriority(&stream->stream_, cudaStreamNonBlocking, priority),
               "cudaStreamCreateWithPriority"));
  YOIO_RETURN_IF_ERROR(
      ToStatus(cudaEventCreateWithFlags(&stream->mark_, cudaEventDisableTiming), "cudaEventCreateWithFlags"));
  YOIO_RETURN_IF_ERROR(ToStatus(cudaMalloc(&stream->scratch_, kScratchBytes), "cudaMalloc of scratch"));
  YOIO_RETURN_IF_ERROR(
      ToStatus(cudaMalloc(&stream->blas_scratch_, kBlasScratchBytes), "cudaMalloc of scratch"));
  YOIO_RETURN_IF_ERROR(
      ToStatus(cudaMalloc(reinterpret_cast<void**>(&stream->counters_), kNumCounters * sizeof(unsigned)),
               "cudaMalloc of counters"));
  YOIO_RETURN_IF_ERROR(
      ToStatus(cudaMemset(stream->counters_, 0, kNumCounters * sizeof(unsigned)), "cudaMemset"));
  stream->Note(cublasLtCreate(&stream->blas_), "cublasLtCreate");
  YOIO_RETURN_IF_ERROR(stream->status_);
  return stream;
}

CudaStream::~CudaStream() {
  side_.reset();
  if (stream_ != nullptr) {
    cudaStreamSynchronize(stream_);
    cudaStreamDestroy(stream_);
  }
  if (mark_ != nullptr) cudaEventDestroy(mark_);
  if (blas_ != nullptr) cublasLtDestroy(blas_);
  cudaFree(scratch_);
  cudaFree(blas_scratch_);
  cudaFree(counters_);
}

void CudaStream::Note(cublasStatus_t error, std::string_view what) {
  if (error == CUBLAS_STATUS_SUCCESS) return;
  const std::string message = absl::StrCat(std::string(what), ": ", cublasLtGetStatusName(error));
  status_.Update(error == CUBLAS_STATUS_ALLOC_FAILED ? absl::ResourceExhaustedError(message)
                                                     : absl::InternalError(message));
}

}  // namespace yoio::kernels::cuda
