// One GPU as a device: every operation of kernels/ops.h is queued on a CUDA stream.
#ifndef YOIO_KERNELS_CUDA_CUDA_BACKEND_H_
#define YOIO_KERNELS_CUDA_CUDA_BACKEND_H_

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/backend.h"
#include "kernels/cuda/mat_mul_library.h"

namespace yoio::kernels::cuda {

// Allocations may come from any thread; a stream belongs to one. The stream's thread has this GPU as its
// current device from NewStream on.
class CudaBackend final : public Backend {
 public:
  // UNAVAILABLE without a driver or such a device, or when the driver is older than this build needs;
  // FAILED_PRECONDITION naming both when the GPU's generation is not one this build has code for.
  static absl::StatusOr<std::unique_ptr<CudaBackend>> Create(int device);

  // As cudaSetDevice counts.
  int device() const { return device_; }

  std::string_view name() const override { return name_; }
  DType activation_type() const override { return DType::kBF16; }

  absl::StatusOr<int64_t> AvailableBytes() override;
  absl::StatusOr<Buffer> Allocate(size_t bytes) override;
  absl::StatusOr<Buffer> AllocateHost(size_t bytes) override;
  absl::StatusOr<std::unique_ptr<Stream>> NewStream(int num_threads) override;

  absl::StatusOr<Stream*> SideStream(Stream& stream) override;
  void WaitFor(Stream& stream, Stream& other) override;

  void CopyToDevice(void* device, const void* host, size_t bytes, Stream& stream) override;
  void CopyToHost(void* host, const void* device, size_t bytes, Stream& stream) override;
  void Fill(void* device, int byte, size_t bytes, Stream& stream) override;
  absl::Status Synchronize(Stream& stream) override;

  absl::StatusOr<std::unique_ptr<Event>> NewEvent() override;
  void Record(Event& event, Stream& stream) override;
  absl::StatusOr<bool> Passed(Event& event) override;

  std::vector<int> KindsOfRows(int most) const override { return LibraryProducts::KindsOfRows(most); }
  bool captures() const override { return true; }
  void BeginCapture(Stream& stream) override;
  absl::StatusOr<std::unique_ptr<Graph>> EndCapture(Stream& stream) override;
  void Replay(Graph& graph, Stream& stream) override;

  void Embed(const EmbedArgs& args, Stream& stream) override;
  void ResidualRmsNorm(const ResidualRmsNormArgs& args, Stream& stream) override;
  void RopeTable(const RopeTableArgs& args, Stream& stream) override;
  void HeadNormRope(const HeadNormRopeArgs& args, Stream& stream) override;
  void MatMul(const MatMulArgs& args, Stream& stream) override;
  void SiluGate(const SiluGateArgs& args, Stream& stream) override;
  void GateUp(const GateUpArgs& args, Stream& stream) override;
  void WriteKv(const WriteKvArgs& args, Stream& stream) override;
  void WriteIndexKeys(const WriteIndexKeysArgs& args, Stream& stream) override;
  void WindowAttention(const WindowAttentionArgs& args, Stream& stream) override;
  void DenseAttention(const DenseAttentionArgs& args, Stream& stream) override;
  void IndexScores(const IndexScoresArgs& args, Stream& stream) override;
  void TopK(const TopKArgs& args, Stream& stream) override;
  void SparseAttention(const SparseAttentionArgs& args, Stream& stream) override;
  void GatherRows(const GatherRowsArgs& args, Stream& stream) override;
  void CopyBlocks(const CopyBlocksArgs& args, Stream& stream) override;
  void UpdateWords(const UpdateWordsArgs& args, Stream& stream) override;
  void AdjustLogits(const AdjustLogitsArgs& args, Stream& stream) override;
  void Draw(const DrawArgs& args, Stream& stream) override;
  void Pick(const PickArgs& args, Stream& stream) override;
  void JoinParts(const JoinPartsArgs& args, Stream& stream) override;
  void RecordTokens(const RecordTokensArgs& args, Stream& stream) override;
  void Logprobs(const LogprobsArgs& args, Stream& stream) override;
  void Stamp(const StampArgs& args, Stream& stream) override;

 private:
  CudaBackend(int device, std::string name) : device_(device), name_(std::move(name)) {}
  void Free(void* data, size_t bytes, bool on_host) override;

  const int device_;
  const std::string name_;
};

}  // namespace yoio::kernels::cuda

#endif  // YOIO_KERNELS_CUDA_CUDA_BACKEND_H_
