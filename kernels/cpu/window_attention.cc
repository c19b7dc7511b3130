#include <algorithm>

#include "base/check.h"
#include "kernels/cpu/attention_common.h"

namespace yoio::kernels::cpu {
namespace {

// The span that `row` belongs to. Spans are few, and ascend.
SequenceSpan SpanOf(const WindowAttentionArgs& args, int row) {
  if (args.spans == nullptr) return {row, 1, args.rows[row].length - 1, args.rows[row].slot};
  const SequenceSpan* span = args.spans;
  while (row >= span->row_begin + span->row_count) ++span;
  return *span;
}

}  // namespace

void WindowAttention(const WindowAttentionArgs& args, CpuStream& stream) {
  YOIO_CHECK_EQ(args.ring_tokens % kBlockTokens, 0);
  const int64_t head_dim = args.head_dim;
  const int64_t token_stride = args.kv_heads * 2 * head_dim;

  const auto share_keys = [&](int row, int limit, KeyRange* ranges) {
    const SequenceSpan span = SpanOf(args, row);
    const int count = std::min(limit, span.row_begin + span.row_count - row);
    const int position = span.start_position + row - span.row_begin;
    for (int i = 0; i < count; ++i) {
      ranges[i] = {std::max(0, position + i + 1 - args.window), position + i + 1};
    }
    return count;
  };

  const auto locate = [&](int row, int kv_head, int32_t begin, int32_t end, KeyRows& rows) {
    const SequenceSpan span = SpanOf(args, row);
    const float* ring =
        AsFloats(args.ring) + int64_t{span.slot} * args.ring_tokens * token_stride + kv_head * 2 * head_dim;
    int32_t p = begin;
    for (; p < std::min(end, span.start_position); ++p) {
      const float* token = ring + p % args.ring_tokens * token_stride;
      rows.k[p % kBlockTokens] = token;
      rows.v[p % kBlockTokens] = token + head_dim;
    }
    for (; p < end; ++p) {
      const int64_t offset =
          (span.row_begin + p - span.start_position) * args.row_stride + kv_head * head_dim;
      rows.k[p % kBlockTokens] = AsFloats(args.k) + offset;
      rows.v[p % kBlockTokens] = AsFloats(args.v) + offset;
    }
  };

  Attention({.q = AsFloats(args.q),
             .q_stride = args.row_stride,
             .num_rows = args.num_rows,
             .heads = args.heads,
             .kv_heads = args.kv_heads,
             .head_dim = args.head_dim,
             .out = AsFloats(args.out),
             .share_keys = share_keys,
             .locate = locate},
            stream);
  WriteKv({.k = args.k,
           .v = args.v,
           .row_stride = args.row_stride,
           .slots = args.ring_slots,
           .num_rows = args.num_rows,
           .kv_heads = args.kv_heads,
           .head_dim = args.head_dim,
           .cache = args.ring},
          stream);
}

}  // namespace yoio::kernels::cpu
