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

  absl::StatusOr<Buffer> Allocate(size_t bytes) override;

  // INVALID_ARGUMENT unless num_threads >= 1.
  absl::StatusOr<std::unique_ptr<Stream>> NewStream(int num_threads) override;

  void CopyToDevice(void* device, const void* host, size_t bytes, Stream& stream) override;
  void CopyToHost(void* host, const void* device, size_t bytes, Stream& stream) override;
  void Fill(void* device, int byte, size_t bytes, Stream& stream) override;
  absl::Status Synchronize(Stream& stream) override;

  void Embed(const EmbedArgs& args, Stream& stream) override;
  void ResidualRmsNorm(const ResidualRmsNormArgs& args, Stream& stream) override;
  void RopeTable(const RopeTableArgs& args, Stream& stream) override;
  void HeadNormRope(const HeadNormRopeArgs& args, Stream& stream) override;
  void MatMul(const MatMulArgs& args, Stream& stream) override;
  void SiluGate(const SiluGateArgs& args, Stream& stream) override;
  void WriteKv(const WriteKvArgs& args, Stream& stream) override;
  void WriteIndexKeys(const WriteIndexKeysArgs& args, Stream& stream) override;
  void WindowAttention(const WindowAttentionArgs& args, Stream& stream) override;
  void DenseAttention(const DenseAttentionArgs& args, Stream& stream) override;
  void IndexScores(const IndexScoresArgs& args, Stream& stream) override;
  void TopK(const TopKArgs& args, Stream& stream) override;
  void TranslateIndex(const TranslateIndexArgs& args, Stream& stream) override;
  void SparseAttention(const SparseAttentionArgs& args, Stream& stream) override;
  void GatherRows(const GatherRowsArgs& args, Stream& stream) override;
  void CopyBlocks(const CopyBlocksArgs& args, Stream& stream) override;

 private:
  void Free(void* data, size_t bytes) override;
};

}  // namespace yoio::kernels::cpu

#endif  // YOIO_KERNELS_CPU_CPU_BACKEND_H_
