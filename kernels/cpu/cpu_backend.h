// The host as a device: every operation of kernels/ops.h runs at once, on the threads of its stream.
#ifndef YOIO_KERNELS_CPU_CPU_BACKEND_H_
#define YOIO_KERNELS_CPU_CPU_BACKEND_H_

#include <cstddef>
#include <memory>
#include <string_view>

#include "kernels/backend.h"

namespace yoio::kernels::cpu {

// Thread-safe as long as no two threads share a stream. Holds no state: one object serves all ranks of a
// process. Owned by whoever called MakeBackend, and outlives its buffers.
class CpuBackend final : public Backend {
 public:
  std::string_view name() const override { return "cpu"; }

  DType activation_type() const override { return DType::kF32; }

  // What the host, or this process's cgroup, can still give.
  absl::StatusOr<int64_t> AvailableBytes() override;
  absl::StatusOr<Buffer> Allocate(size_t bytes) override;
  absl::StatusOr<Buffer> AllocateHost(size_t bytes) override { return Allocate(bytes); }

  // INVALID_ARGUMENT unless num_threads >= 1.
  absl::StatusOr<std::unique_ptr<Stream>> NewStream(int num_threads) override;

  absl::StatusOr<Stream*> SideStream(Stream& stream) override { return &stream; }
  void WaitFor(Stream& stream, Stream& other) override {}

  void CopyToDevice(void* device, const void* host, size_t bytes, Stream& stream) override;
  void CopyToHost(void* host, const void* device, size_t bytes, Stream& stream) override;
  void Fill(void* device, int byte, size_t bytes, Stream& stream) override;
  absl::Status Synchronize(Stream& stream) override;

  absl::StatusOr<std::unique_ptr<Event>> NewEvent() override { return std::make_unique<Event>(); }
  void Record(Event& event, Stream& stream) override {}
  absl::StatusOr<bool> Passed(Event& event) override { return true; }

  std::vector<int> KindsOfRows(int /*most*/) const override { return {}; }
  bool captures() const override { return false; }
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
  void Free(void* data, size_t bytes, bool on_host) override;
};

}  // namespace yoio::kernels::cpu

#endif  // YOIO_KERNELS_CPU_CPU_BACKEND_H_
