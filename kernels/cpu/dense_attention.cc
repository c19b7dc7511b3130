#include "kernels/cpu/attention_common.h"

namespace yoio::kernels::cpu {

void DenseAttention(const DenseAttentionArgs& args, CpuStream& stream) {
  const int64_t head_dim = args.head_dim;
  const int64_t token_stride = args.kv_heads * 2 * head_dim;

  const auto share_keys = [&](int row, int limit, KeyRange* ranges) {
    int count = 0;
    while (count < limit && args.rows[row + count].slot == args.rows[row].slot) {
      ranges[count] = {0, args.rows[row + count].length};
      ++count;
    }
    return count;
  };

  const auto locate = [&](int row, int kv_head, int32_t begin, int32_t end, KeyRows& rows) {
    const int32_t* table = args.block_tables + int64_t{args.rows[row].slot} * args.max_blocks;
    const float* block =
        AsFloats(args.cache) + int64_t{table[begin / kBlockTokens]} * kBlockTokens * token_stride;
    for (int32_t p = begin; p < end; ++p) {
      const float* token = block + p % kBlockTokens * token_stride + kv_head * 2 * head_dim;
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
