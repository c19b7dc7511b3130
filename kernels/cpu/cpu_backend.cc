#include "kernels/cpu/cpu_backend.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "base/host_resources.h"
#include "kernels/cpu/cpu_ops.h"

namespace yoio::kernels::cpu {
namespace {

constexpr size_t kAlignment = 64;              // one cache line, and the widest vector
constexpr size_t kHugePage = size_t{2} << 20;  // gathers from a large cache miss the TLB with 4 KiB pages

// Left to the rest of the machine, and to what this process allocates beside weights and cache.
constexpr int64_t kMinReserve = int64_t{512} << 20;

size_t RoundUp(size_t bytes, size_t multiple) { return (bytes + multiple - 1) / multiple * multiple; }

// Streams of this backend are CpuStreams: nothing else makes one.
CpuStream& Cpu(Stream& stream) { return static_cast<CpuStream&>(stream); }

}  // namespace

absl::StatusOr<int64_t> CpuBackend::AvailableBytes() {
  const int64_t available = AvailableMemoryBytes();
  return available - std::max(kMinReserve, available / 10);
}

absl::StatusOr<Buffer> CpuBackend::Allocate(size_t bytes) {
  if (bytes == 0) return Buffer();
  const size_t alignment = bytes >= kHugePage ? kHugePage : kAlignment;
  void* data =
      bytes <= SIZE_MAX - alignment ? std::aligned_alloc(alignment, RoundUp(bytes, alignment)) : nullptr;
  if (data == nullptr) {
    return absl::ResourceExhaustedError(absl::StrCat("host memory: no room for ", bytes, " bytes"));
  }
  // Advice only: a kernel without huge pages refuses, and nothing but speed changes.
  if (alignment == kHugePage) madvise(data, RoundUp(bytes, alignment), MADV_HUGEPAGE);
  return Buffer(this, data, bytes);
}

void CpuBackend::Free(void* data, size_t bytes, bool on_host) { std::free(data); }

absl::StatusOr<std::unique_ptr<Stream>> CpuBackend::NewStream(int num_threads) {
  if (num_threads < 1) {
    return absl::InvalidArgumentError(absl::StrCat("num_threads: expected at least 1, got ", num_threads));
  }
  return std::make_unique<CpuStream>(num_threads);
}

void CpuBackend::CopyToDevice(void* device, const void* host, size_t bytes, Stream& stream) {
  if (bytes > 0) std::memcpy(device, host, bytes);
}

void CpuBackend::CopyToHost(void* host, const void* device, size_t bytes, Stream& stream) {
  if (bytes > 0) std::memcpy(host, device, bytes);
}

void CpuBackend::Fill(void* device, int byte, size_t bytes, Stream& stream) {
  if (bytes > 0) std::memset(device, byte, bytes);
}

// Every operation has finished when its call returns, and none of them can fail.
absl::Status CpuBackend::Synchronize(Stream& stream) { return absl::OkStatus(); }

void CpuBackend::BeginCapture(Stream& stream) { YOIO_CHECK(false) << "a CPU runs operations at once"; }

absl::StatusOr<std::unique_ptr<Graph>> CpuBackend::EndCapture(Stream& stream) {
  return absl::UnimplementedError("a CPU runs operations at once");
}

void CpuBackend::Replay(Graph& graph, Stream& stream) {
  YOIO_CHECK(false) << "a CPU runs operations at once";
}

void CpuBackend::Embed(const EmbedArgs& args, Stream& stream) { cpu::Embed(args, Cpu(stream)); }

void CpuBackend::ResidualRmsNorm(const ResidualRmsNormArgs& args, Stream& stream) {
  cpu::ResidualRmsNorm(args, Cpu(stream));
}

void CpuBackend::RopeTable(const RopeTableArgs& args, Stream& stream) { cpu::RopeTable(args, Cpu(stream)); }

void CpuBackend::HeadNormRope(const HeadNormRopeArgs& args, Stream& stream) {
  cpu::HeadNormRope(args, Cpu(stream));
}

void CpuBackend::MatMul(const MatMulArgs& args, Stream& stream) { cpu::MatMul(args, Cpu(stream)); }

void CpuBackend::SiluGate(const SiluGateArgs& args, Stream& stream) { cpu::SiluGate(args, Cpu(stream)); }

void CpuBackend::GateUp(const GateUpArgs& args, Stream& stream) { cpu::GateUp(args, Cpu(stream)); }

void CpuBackend::WriteKv(const WriteKvArgs& args, Stream& stream) { cpu::WriteKv(args, Cpu(stream)); }

void CpuBackend::WriteIndexKeys(const WriteIndexKeysArgs& args, Stream& stream) {
  cpu::WriteIndexKeys(args, Cpu(stream));
}

void CpuBackend::WindowAttention(const WindowAttentionArgs& args, Stream& stream) {
  cpu::WindowAttention(args, Cpu(stream));
}

void CpuBackend::DenseAttention(const DenseAttentionArgs& args, Stream& stream) {
  cpu::DenseAttention(args, Cpu(stream));
}

void CpuBackend::IndexScores(const IndexScoresArgs& args, Stream& stream) {
  cpu::IndexScores(args, Cpu(stream));
}

void CpuBackend::TopK(const TopKArgs& args, Stream& stream) { cpu::TopK(args, Cpu(stream)); }

void CpuBackend::SparseAttention(const SparseAttentionArgs& args, Stream& stream) {
  cpu::SparseAttention(args, Cpu(stream));
}

void CpuBackend::GatherRows(const GatherRowsArgs& args, Stream& stream) {
  cpu::GatherRows(args, Cpu(stream));
}

void CpuBackend::CopyBlocks(const CopyBlocksArgs& args, Stream& stream) {
  cpu::CopyBlocks(args, Cpu(stream));
}

void CpuBackend::UpdateWords(const UpdateWordsArgs& args, Stream& stream) {
  cpu::UpdateWords(args, Cpu(stream));
}

void CpuBackend::AdjustLogits(const AdjustLogitsArgs& args, Stream& stream) {
  cpu::AdjustLogits(args, Cpu(stream));
}

void CpuBackend::Draw(const DrawArgs& args, Stream& stream) { cpu::Draw(args, Cpu(stream)); }

void CpuBackend::Pick(const PickArgs& args, Stream& stream) { cpu::Pick(args, Cpu(stream)); }

void CpuBackend::JoinParts(const JoinPartsArgs& args, Stream& stream) { cpu::JoinParts(args, Cpu(stream)); }

void CpuBackend::RecordTokens(const RecordTokensArgs& args, Stream& stream) {
  cpu::RecordTokens(args, Cpu(stream));
}

void CpuBackend::Logprobs(const LogprobsArgs& args, Stream& stream) { cpu::Logprobs(args, Cpu(stream)); }

void CpuBackend::Stamp(const StampArgs& args, Stream& stream) { cpu::Stamp(args, Cpu(stream)); }

}  // namespace yoio::kernels::cpu
