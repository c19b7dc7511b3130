// Softmax attention on the host: one algorithm behind WindowAttention, DenseAttention and SparseAttention,
// which differ only in which keys a row sees and where they lie.
//
// Invariant I5 rests on this file. Every (row, head) is computed in one lane of the vectors, and meets its
// keys in blocks of kBlockTokens at fixed logical positions, blocks in ranges of kRangeTokens; within a block
// it sums key after key, within a range it rescales block after block, and ranges are merged in order. Rows
// that share their keys are computed side by side to read each key once; keys that one of them does not see,
// being finite, add exact zeros to it. So the bits of a row depend on its query and its keys alone: not on
// chunks, batches or threads.
#ifndef YOIO_KERNELS_CPU_ATTENTION_COMMON_H_
#define YOIO_KERNELS_CPU_ATTENTION_COMMON_H_

#include <cstdint>

#include "absl/functional/function_ref.h"
#include "kernels/cpu/cpu_ops.h"

namespace yoio::kernels::cpu {

// Query heads that may share one key/value head.
inline constexpr int kMaxGroup = 128;

// The keys that a row sees: [begin, end), counted in logical order.
struct KeyRange {
  int32_t begin;
  int32_t end;
};

// Where the keys and values of one block and one head lie: head_dim floats each.
struct KeyRows {
  const float* k[kBlockTokens];
  const float* v[kBlockTokens];
};

struct AttentionProblem {
  const float* q;  // row i, head h at q + i * q_stride + h * head_dim
  int64_t q_stride;
  int num_rows;
  int heads;  // a multiple of kv_heads, at most kMaxGroup times as many
  int kv_heads;
  int head_dim;  // fastest when a multiple of 16
  float* out;    // [num_rows, heads, head_dim]

  // The number of rows from `row` on, at least 1 and at most `limit`, that find their keys where `row` does;
  // fills in what each of them sees.
  absl::FunctionRef<int(int row, int limit, KeyRange* ranges)> share_keys;

  // Points rows.k and rows.v[p % kBlockTokens] at key p of the key/value head, for every p in [begin, end),
  // all of one block. `row` is the first of the rows that share the keys.
  absl::FunctionRef<void(int row, int kv_head, int32_t begin, int32_t end, KeyRows& rows)> locate;
};

// Computes every row of the problem. Scale 1/sqrt(head_dim).
void Attention(const AttentionProblem& problem, CpuStream& stream);

}  // namespace yoio::kernels::cpu

#endif  // YOIO_KERNELS_CPU_ATTENTION_COMMON_H_
