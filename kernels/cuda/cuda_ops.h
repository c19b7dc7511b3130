// The CUDA implementation: one function per operation of kernels/ops.h, one file per function (or family).
//
// Everything is queued on the stream and returns at once. Grids depend on sizes that the host knows (rows,
// heads, widths) and never on lengths or counts, which are device memory: what was captured for a number of
// rows can be replayed for any step of that many. A launch that fails is kept by the stream and reported by
// Synchronize and Passed.
#ifndef YOIO_KERNELS_CUDA_CUDA_OPS_H_
#define YOIO_KERNELS_CUDA_CUDA_OPS_H_

#include "kernels/cuda/cuda_stream.h"
#include "kernels/ops.h"

namespace yoio::kernels::cuda {

void Embed(const EmbedArgs& args, CudaStream& stream);
void ResidualRmsNorm(const ResidualRmsNormArgs& args, CudaStream& stream);
void RopeTable(const RopeTableArgs& args, CudaStream& stream);
void HeadNormRope(const HeadNormRopeArgs& args, CudaStream& stream);
void MatMul(const MatMulArgs& args, CudaStream& stream);
void SiluGate(const SiluGateArgs& args, CudaStream& stream);
void GateUp(const GateUpArgs& args, CudaStream& stream);
void WriteKv(const WriteKvArgs& args, CudaStream& stream);
void WriteIndexKeys(const WriteIndexKeysArgs& args, CudaStream& stream);
void WindowAttention(const WindowAttentionArgs& args, CudaStream& stream);
void DenseAttention(const DenseAttentionArgs& args, CudaStream& stream);
void IndexScores(const IndexScoresArgs& args, CudaStream& stream);
void TopK(const TopKArgs& args, CudaStream& stream);
void SparseAttention(const SparseAttentionArgs& args, CudaStream& stream);
void GatherRows(const GatherRowsArgs& args, CudaStream& stream);
void CopyBlocks(const CopyBlocksArgs& args, CudaStream& stream);
void UpdateWords(const UpdateWordsArgs& args, CudaStream& stream);
void AdjustLogits(const AdjustLogitsArgs& args, CudaStream& stream);
void Draw(const DrawArgs& args, CudaStream& stream);
void Pick(const PickArgs& args, CudaStream& stream);
void JoinParts(const JoinPartsArgs& args, CudaStream& stream);
void RecordTokens(const RecordTokensArgs& args, CudaStream& stream);
void Logprobs(const LogprobsArgs& args, CudaStream& stream);
void Stamp(const StampArgs& args, CudaStream& stream);

}  // namespace yoio::kernels::cuda

#endif  // YOIO_KERNELS_CUDA_CUDA_OPS_H_
