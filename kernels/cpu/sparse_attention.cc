#include "kernels/cpu/attention_common.h"

namespace yoio::kernels::cpu {

// The keys of a row are its chosen tokens, counted by their place in the list: blocks and ranges lie there.
void SparseAttention(const SparseAttentionArgs& args, CpuStream& stream) {
  const int64_t head_dim = args.head_dim;
  const int64_t token_stride = args.kv_heads * 2 * head_dim;

  const auto share_keys = [&](int row, int limit, KeyRange* ranges) {
    ranges[0] = {0, args.count[row]};
    return 1;
  };

  const auto locate = [&](int row, int kv_head, int32_t begin, int32_t end, KeyRows& rows) {
    const int32_t* slots = args.slots + int64_t{row} * args.top_k;
    for (int32_t p = begin; p < end; ++p) {
      const float* token = AsFloats(args.cache) + slots[p] * token_stride + kv_head * 2 * head_dim;
      rows.k[p % kBlockTokens] = token;
      rows.v[p % kBlockTokens] = token + head_dim;
    }
  };

  Attention({.q = AsFloats(args.q),
             .q_stride = args.q_stride,
             .num_rows = args.num_rows,
             .heads = args.heads,
             .kv_heads = args.kv_heads,
             .head_dim = args.head_dim,
             .out = AsFloats(args.out),
             .share_keys = share_keys,
             .locate = locate},
            stream);
}

}  // namespace yoio::kernels::cpu
