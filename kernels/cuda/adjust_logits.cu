// What happens around a draw to rows that ask for it: penalties, biases and bans on a copy of the logits, and
// the history that penalties read: logits [*, stride] and history [slots, vocab] to out [num_rows, stride].
//
// Floor: a row with penalties moves 12 bytes a token, 1.5 MB of a vocabulary of 128256, without them 8: 32
// rows with penalties take 16 us at 2.99 TB/s. A part of the vocabulary is one block's, which makes the three
// stages follow each other without a wait for any other block; every block looks through all biases and bans
// of its row, of which there are few.
//
// On an H100, microseconds for 1 / 8 / 32 / 64 rows of 128256, the last two out of L2: with penalties and 10
// biases 4.4 / 8.2 / 20 / 39, with biases alone 4.0 / 7.7 / 13 / 30; recording what was drawn 1.2.
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/logit_math.h"

namespace yoio::kernels::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kTokensOfBlock = 16 * kThreads;

__global__ void __launch_bounds__(kThreads) AdjustLogitsKernel(AdjustLogitsArgs args) {
  AllowNext();
  WaitForPrevious();
  const AdjustRow row = args.rows[blockIdx.x];
  if (row.logits_row < 0) return;
  const float* logits = args.logits + row.logits_row * args.logits_stride;
  float* out = args.out + blockIdx.x * args.logits_stride;
  const int begin = blockIdx.y * kTokensOfBlock, end = min(begin + kTokensOfBlock, args.vocab);
  if (row.slot < 0) {
#pragma unroll 8
    for (int id = begin + threadIdx.x; id < end; id += kThreads) out[id] = logits[id];
  } else {
    const uint32_t* history = args.history + int64_t{row.slot} * args.vocab;
#pragma unroll 8
    for (int id = begin + threadIdx.x; id < end; id += kThreads) {
      out[id] = Penalize(logits[id], history[id], row);
    }
  }
  __syncthreads();
  for (int i = threadIdx.x; i < row.bias_count; i += kThreads) {
    const LogitBias bias = args.biases[row.bias_begin + i];
    if (bias.id >= begin && bias.id < end) out[bias.id] = AddBias(out[bias.id], bias.bias);
  }
  __syncthreads();
  for (int i = threadIdx.x; i < row.ban_count; i += kThreads) {
    const int32_t id = args.bans[row.ban_begin + i];
    if (id >= begin && id < end) out[id] = Ban(out[id]);
  }
}

__global__ void __launch_bounds__(kThreads) RecordTokensKernel(RecordTokensArgs args) {
  AllowNext();
  WaitForPrevious();
  const int i = blockIdx.x * kThreads + threadIdx.x;
  if (i >= args.num_rows) return;
  const int32_t slot = args.rows[i].slot, id = args.ids[i], place = id - args.first_id;
  if (slot < 0 || id < 0 || place < 0 || place >= args.vocab) return;
  uint32_t& word = args.history[int64_t{slot} * args.vocab + place];
  word = Recorded(word);
}

}  // namespace

void AdjustLogits(const AdjustLogitsArgs& args, CudaStream& stream) {
  const unsigned parts = (args.vocab + kTokensOfBlock - 1) / kTokensOfBlock;
  Launch(stream, "AdjustLogits", AdjustLogitsKernel,
         {dim3(static_cast<unsigned>(args.num_rows), parts), kThreads}, args);
}

void RecordTokens(const RecordTokensArgs& args, CudaStream& stream) {
  const unsigned blocks = (args.num_rows + kThreads - 1) / kThreads;
  Launch(stream, "RecordTokens", RecordTokensKernel, {blocks, kThreads}, args);
}

}  // namespace yoio::kernels::cuda
