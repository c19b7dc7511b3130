// The CPU implementation: one function per operation of kernels/ops.h, one file per function (or family).
//
// Vector code is written once with Highway and compiled for several instruction sets; the best one the
// machine has is chosen when the process starts.
#ifndef YOIO_KERNELS_CPU_CPU_OPS_H_
#define YOIO_KERNELS_CPU_CPU_OPS_H_

#include <cstddef>
#include <memory>
#include <vector>

#include "base/thread_pool.h"
#include "kernels/backend.h"
#include "kernels/ops.h"

namespace yoio::kernels::cpu {

// A rank's share of the host: its threads, and scratch memory for each of them. Work runs at once, on the
// caller.
class CpuStream : public Stream {
 public:
  explicit CpuStream(int num_threads) : pool_(num_threads), scratch_(num_threads) {}

  ThreadPool& pool() { return pool_; }

  // Scratch of one thread of the pool, at least `count` floats, 64-byte aligned, contents undefined. Grows to
  // the largest request ever made and stays there, so that warmed-up steps allocate nothing.
  float* Scratch(int thread, size_t count);

 private:
  struct Free {
    void operator()(float* data) const;
  };
  struct Arena {
    std::unique_ptr<float[], Free> data;
    size_t count = 0;
  };

  ThreadPool pool_;
  std::vector<Arena> scratch_;
};

// Activations of this backend are floats.
inline float* AsFloats(Activation* data) { return reinterpret_cast<float*>(data); }
inline const float* AsFloats(const Activation* data) { return reinterpret_cast<const float*>(data); }

void Embed(const EmbedArgs& args, CpuStream& stream);
void ResidualRmsNorm(const ResidualRmsNormArgs& args, CpuStream& stream);
void RopeTable(const RopeTableArgs& args, CpuStream& stream);
void HeadNormRope(const HeadNormRopeArgs& args, CpuStream& stream);
void MatMul(const MatMulArgs& args, CpuStream& stream);
void SiluGate(const SiluGateArgs& args, CpuStream& stream);
void GateUp(const GateUpArgs& args, CpuStream& stream);
void WriteKv(const WriteKvArgs& args, CpuStream& stream);
void WriteIndexKeys(const WriteIndexKeysArgs& args, CpuStream& stream);
void WindowAttention(const WindowAttentionArgs& args, CpuStream& stream);
void DenseAttention(const DenseAttentionArgs& args, CpuStream& stream);
void IndexScores(const IndexScoresArgs& args, CpuStream& stream);
void TopK(const TopKArgs& args, CpuStream& stream);
void SparseAttention(const SparseAttentionArgs& args, CpuStream& stream);
void GatherRows(const GatherRowsArgs& args, CpuStream& stream);
void CopyBlocks(const CopyBlocksArgs& args, CpuStream& stream);
void UpdateWords(const UpdateWordsArgs& args, CpuStream& stream);
void AdjustLogits(const AdjustLogitsArgs& args, CpuStream& stream);
void Draw(const DrawArgs& args, CpuStream& stream);
void Pick(const PickArgs& args, CpuStream& stream);
void JoinParts(const JoinPartsArgs& args, CpuStream& stream);
void RecordTokens(const RecordTokensArgs& args, CpuStream& stream);
void Logprobs(const LogprobsArgs& args, CpuStream& stream);
void Stamp(const StampArgs& args, CpuStream& stream);

}  // namespace yoio::kernels::cpu

#endif  // YOIO_KERNELS_CPU_CPU_OPS_H_
