// SparseAttention: one query row a sequence over the tokens that the index chose, slots[i, 0 .. count[i]),
// top_k of them (2048) once a sequence is long enough.
//
// Floor: rows * count * kv_heads * 512 bytes read from memory (head_dim 128): 2 KB a token for clsa-4b, 4 KB
// for clsa-8b, so 45 us and 90 us a layer at batch 32 and 2.99 TB/s, and 1.4 us and 2.8 us at batch 1, where
// what counts is the chain of dependent steps: slots, tokens, sums, their merging.
#include "kernels/cuda/attention_decode.cuh"
#include "kernels/cuda/attention_general.cuh"
#include "kernels/cuda/cuda_ops.h"

namespace yoio::kernels::cuda {
namespace {

using decode::TokenAddress;

constexpr int kStages = 4;  // of 34 KB: with fewer, one block a multiprocessor falls short of the bandwidth
constexpr int kPartTokens = 128;

// The chosen tokens of each row.
struct ChosenTokens {
  struct Row {
    int count;
    const int32_t* slots;
  };

  int capacity;
  const int32_t* slots;
  const int32_t* count;
  const __nv_bfloat16* cache;
  int kv_heads;
  int head_dim;

  __device__ Row Load(int row) const { return {count[row], slots + int64_t{row} * capacity}; }
  __device__ int Find(const Row& row, int token) const { return row.slots[token]; }
  __device__ TokenAddress At(const Row&, int slot, int kv_head) const {
    const __nv_bfloat16* key = cache + (int64_t{slot} * kv_heads + kv_head) * 2 * head_dim;
    return {key, key + head_dim};
  }
  __device__ void Finish(const Row&, int, int) const {}
};

}  // namespace

void SparseAttention(const SparseAttentionArgs& args, CudaStream& stream) {
  const ChosenTokens source = {.capacity = args.top_k,
                               .slots = args.slots,
                               .count = args.count,
                               .cache = Halves(args.cache),
                               .kv_heads = args.kv_heads,
                               .head_dim = args.head_dim};
  const decode::Call call = {.q = Halves(args.q),
                             .q_stride = args.q_stride,
                             .out = Halves(args.out),
                             .num_rows = args.num_rows,
                             .heads = args.heads,
                             .kv_heads = args.kv_heads,
                             .head_dim = args.head_dim};
  if (decode::TakesDecode(call)) {
    decode::LaunchDecode<ChosenTokens, kStages>(stream, "SparseAttention", source, call, kPartTokens,
                                                stream.multiprocessors());
  } else {
    decode::LaunchGeneral(stream, "SparseAttention", source, call);
  }
}

}  // namespace yoio::kernels::cuda
