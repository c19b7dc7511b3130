#include "kernels/cuda/cuda_backend.h"

#include <cuda_runtime_api.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/cuda_stream.h"
#include "kernels/cuda/device_info.h"
#include "kernels/cuda/status.h"

namespace yoio::kernels::cuda {
namespace {

// Left for the driver, the library's own code and the fragments between allocations.
constexpr int64_t kReserve = int64_t{1} << 30;

// Streams of this backend are CudaStreams, and so on: nothing else makes one.
CudaStream& Cuda(Stream& stream) { return static_cast<CudaStream&>(stream); }

class CudaEvent final : public Event {
 public:
  explicit CudaEvent(cudaEvent_t event) : event_(event) {}
  ~CudaEvent() override { cudaEventDestroy(event_); }

  cudaEvent_t get() const { return event_; }
  // The stream it was last recorded in; null before.
  const CudaStream* stream = nullptr;

 private:
  const cudaEvent_t event_;
};

class CudaGraph final : public Graph {
 public:
  explicit CudaGraph(cudaGraphExec_t executable) : executable_(executable) {}
  ~CudaGraph() override { cudaGraphExecDestroy(executable_); }

  cudaGraphExec_t get() const { return executable_; }

 private:
  const cudaGraphExec_t executable_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<CudaBackend>> CudaBackend::Create(int device) {
  YOIO_ASSIGN_OR_RETURN(const std::vector<DeviceInfo> devices, ListDevices());
  if (device < 0 || device >= static_cast<int>(devices.size())) {
    return absl::UnavailableError(
        absl::StrCat("device cuda:", device, ": this process sees ", devices.size(), " GPU(s)"));
  }
  YOIO_RETURN_IF_ERROR(CheckSupported(devices[device]));
  YOIO_RETURN_IF_ERROR(ToStatus(cudaSetDevice(device), "cudaSetDevice"));
  return std::unique_ptr<CudaBackend>(new CudaBackend(device, devices[device].name));
}

absl::StatusOr<int64_t> CudaBackend::AvailableBytes() {
  size_t free = 0, total = 0;
  YOIO_RETURN_IF_ERROR(ToStatus(cudaSetDevice(device_), "cudaSetDevice"));
  YOIO_RETURN_IF_ERROR(ToStatus(cudaMemGetInfo(&free, &total), "cudaMemGetInfo"));
  const int64_t streams = 2 * (kScratchBytes + kBlasScratchBytes);  // a stream and its side
  return static_cast<int64_t>(free) - streams - kReserve;
}

absl::StatusOr<Buffer> CudaBackend::Allocate(size_t bytes) {
  if (bytes == 0) return Buffer();
  void* data = nullptr;
  YOIO_RETURN_IF_ERROR(ToStatus(cudaSetDevice(device_), "cudaSetDevice"));
  YOIO_RETURN_IF_ERROR(ToStatus(cudaMalloc(&data, bytes), absl::StrCat("cudaMalloc of ", bytes, " bytes")));
  return Buffer(this, data, bytes);
}

absl::StatusOr<Buffer> CudaBackend::AllocateHost(size_t bytes) {
  if (bytes == 0) return Buffer();
  void* data = nullptr;
  YOIO_RETURN_IF_ERROR(ToStatus(cudaSetDevice(device_), "cudaSetDevice"));
  YOIO_RETURN_IF_ERROR(
      ToStatus(cudaMallocHost(&data, bytes), absl::StrCat("cudaMallocHost of ", bytes, " bytes")));
  return Buffer(this, data, bytes, /*on_host=*/true);
}

void CudaBackend::Free(void* data, size_t bytes, bool on_host) {
  if (on_host) {
    cudaFreeHost(data);
  } else {
    cudaFree(data);
  }
}

absl::StatusOr<std::unique_ptr<Stream>> CudaBackend::NewStream(int num_threads) {
  return CudaStream::Create(device_);
}

absl::StatusOr<Stream*> CudaBackend::SideStream(Stream& stream) { return Cuda(stream).Side(); }

void CudaBackend::WaitFor(Stream& stream, Stream& other) { Cuda(stream).WaitFor(Cuda(other)); }

void CudaBackend::CopyToDevice(void* device, const void* host, size_t bytes, Stream& stream) {
  if (bytes == 0) return;
  Cuda(stream).Note(cudaMemcpyAsync(device, host, bytes, cudaMemcpyHostToDevice, Cuda(stream).get()),
                    "copy to the device");
}

void CudaBackend::CopyToHost(void* host, const void* device, size_t bytes, Stream& stream) {
  if (bytes == 0) return;
  Cuda(stream).Note(cudaMemcpyAsync(host, device, bytes, cudaMemcpyDeviceToHost, Cuda(stream).get()),
                    "copy to the host");
}

void CudaBackend::Fill(void* device, int byte, size_t bytes, Stream& stream) {
  if (bytes == 0) return;
  Cuda(stream).Note(cudaMemsetAsync(device, byte, bytes, Cuda(stream).get()), "cudaMemsetAsync");
}

absl::Status CudaBackend::Synchronize(Stream& stream) {
  Cuda(stream).Note(cudaStreamSynchronize(Cuda(stream).get()), "the device's work");
  return Cuda(stream).status();
}

absl::StatusOr<std::unique_ptr<Event>> CudaBackend::NewEvent() {
  cudaEvent_t event;
  YOIO_RETURN_IF_ERROR(ToStatus(cudaSetDevice(device_), "cudaSetDevice"));
  YOIO_RETURN_IF_ERROR(
      ToStatus(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "cudaEventCreateWithFlags"));
  return std::make_unique<CudaEvent>(event);
}

void CudaBackend::Record(Event& event, Stream& stream) {
  CudaEvent& cuda_event = static_cast<CudaEvent&>(event);
  cuda_event.stream = &Cuda(stream);
  Cuda(stream).Note(cudaEventRecord(cuda_event.get(), Cuda(stream).get()), "cudaEventRecord");
}

absl::StatusOr<bool> CudaBackend::Passed(Event& event) {
  const CudaEvent& cuda_event = static_cast<const CudaEvent&>(event);
  if (cuda_event.stream != nullptr) YOIO_RETURN_IF_ERROR(cuda_event.stream->status());
  const cudaError_t error = cudaEventQuery(cuda_event.get());
  if (error == cudaErrorNotReady) return false;
  YOIO_RETURN_IF_ERROR(ToStatus(error, "the device's work"));
  return true;
}

void CudaBackend::BeginCapture(Stream& stream) {
  Cuda(stream).Note(cudaStreamBeginCapture(Cuda(stream).get(), cudaStreamCaptureModeThreadLocal),
                    "cudaStreamBeginCapture");
}

absl::StatusOr<std::unique_ptr<Graph>> CudaBackend::EndCapture(Stream& stream) {
  cudaGraph_t graph = nullptr;
  Cuda(stream).Note(cudaStreamEndCapture(Cuda(stream).get(), &graph), "cudaStreamEndCapture");
  YOIO_RETURN_IF_ERROR(Cuda(stream).status());
  cudaGraphExec_t executable = nullptr;
  const cudaError_t error = cudaGraphInstantiate(&executable, graph, 0);
  cudaGraphDestroy(graph);
  YOIO_RETURN_IF_ERROR(ToStatus(error, "cudaGraphInstantiate"));
  auto result = std::make_unique<CudaGraph>(executable);
  YOIO_RETURN_IF_ERROR(ToStatus(cudaGraphUpload(executable, Cuda(stream).get()), "cudaGraphUpload"));
  return result;
}

void CudaBackend::Replay(Graph& graph, Stream& stream) {
  Cuda(stream).Note(cudaGraphLaunch(static_cast<CudaGraph&>(graph).get(), Cuda(stream).get()),
                    "cudaGraphLaunch");
}

void CudaBackend::Embed(const EmbedArgs& args, Stream& stream) { cuda::Embed(args, Cuda(stream)); }

void CudaBackend::ResidualRmsNorm(const ResidualRmsNormArgs& args, Stream& stream) {
  cuda::ResidualRmsNorm(args, Cuda(stream));
}

void CudaBackend::RopeTable(const RopeTableArgs& args, Stream& stream) {
  cuda::RopeTable(args, Cuda(stream));
}

void CudaBackend::HeadNormRope(const HeadNormRopeArgs& args, Stream& stream) {
  cuda::HeadNormRope(args, Cuda(stream));
}

void CudaBackend::MatMul(const MatMulArgs& args, Stream& stream) { cuda::MatMul(args, Cuda(stream)); }

void CudaBackend::SiluGate(const SiluGateArgs& args, Stream& stream) { cuda::SiluGate(args, Cuda(stream)); }

void CudaBackend::GateUp(const GateUpArgs& args, Stream& stream) { cuda::GateUp(args, Cuda(stream)); }

void CudaBackend::WriteKv(const WriteKvArgs& args, Stream& stream) { cuda::WriteKv(args, Cuda(stream)); }

void CudaBackend::WriteIndexKeys(const WriteIndexKeysArgs& args, Stream& stream) {
  cuda::WriteIndexKeys(args, Cuda(stream));
}

void CudaBackend::WindowAttention(const WindowAttentionArgs& args, Stream& stream) {
  cuda::WindowAttention(args, Cuda(stream));
}

void CudaBackend::DenseAttention(const DenseAttentionArgs& args, Stream& stream) {
  cuda::DenseAttention(args, Cuda(stream));
}

void CudaBackend::IndexScores(const IndexScoresArgs& args, Stream& stream) {
  cuda::IndexScores(args, Cuda(stream));
}

void CudaBackend::TopK(const TopKArgs& args, Stream& stream) { cuda::TopK(args, Cuda(stream)); }

void CudaBackend::SparseAttention(const SparseAttentionArgs& args, Stream& stream) {
  cuda::SparseAttention(args, Cuda(stream));
}

void CudaBackend::GatherRows(const GatherRowsArgs& args, Stream& stream) {
  cuda::GatherRows(args, Cuda(stream));
}

void CudaBackend::CopyBlocks(const CopyBlocksArgs& args, Stream& stream) {
  cuda::CopyBlocks(args, Cuda(stream));
}

void CudaBackend::UpdateWords(const UpdateWordsArgs& args, Stream& stream) {
  cuda::UpdateWords(args, Cuda(stream));
}

void CudaBackend::AdjustLogits(const AdjustLogitsArgs& args, Stream& stream) {
  cuda::AdjustLogits(args, Cuda(stream));
}

void CudaBackend::Draw(const DrawArgs& args, Stream& stream) { cuda::Draw(args, Cuda(stream)); }

void CudaBackend::Pick(const PickArgs& args, Stream& stream) { cuda::Pick(args, Cuda(stream)); }

void CudaBackend::JoinParts(const JoinPartsArgs& args, Stream& stream) {
  cuda::JoinParts(args, Cuda(stream));
}

void CudaBackend::RecordTokens(const RecordTokensArgs& args, Stream& stream) {
  cuda::RecordTokens(args, Cuda(stream));
}

void CudaBackend::Logprobs(const LogprobsArgs& args, Stream& stream) { cuda::Logprobs(args, Cuda(stream)); }

void CudaBackend::Stamp(const StampArgs& args, Stream& stream) { cuda::Stamp(args, Cuda(stream)); }

}  // namespace yoio::kernels::cuda
