// The closed list of operations that a forward pass is made of: one argument struct and one function each.
//
// Words for dimensions, used everywhere (kernels/README.md has the glossary):
//   num_tokens   rows of the step that run the self-decoder, prompt tokens first, generated tokens after them
//   num_rows     rows an operation runs on: tokens, or output rows
//   heads        query heads of this rank        kv_heads   key/value heads of this rank
//   head_dim, hidden, vocab, top_k               slot       index of one cached token: block * kBlockTokens +
//   offset
//
// Every pointer is device memory of the backend, row-major and dense unless a stride stands beside it;
// strides count elements. Activations are float here (CPU); the CUDA backend defines its own width behind the
// same structs. No operation allocates, blocks on anything but its own work, or keeps a pointer after it
// returns. Results do not depend on the number of threads, nor, for any row, on which other rows run in the
// same call (invariant I5 of docs/architecture.md).
#ifndef YOIO_KERNELS_OPS_H_
#define YOIO_KERNELS_OPS_H_

#include <cstdint>

#include "kernels/dtype.h"

namespace yoio::kernels {

inline constexpr int kBlockTokens = 64;  // tokens in one cache block

// A weight matrix as stored in the checkpoint.
struct Matrix {
  const void* data = nullptr;  // [rows, cols], 64-byte aligned
  DType dtype = DType::kBF16;
  int64_t rows = 0;
  int64_t cols = 0;
};

// out[i] = table[ids[i] - vocab_begin], or zeros when that id belongs to another rank's shard.
struct EmbedArgs {
  const int32_t* ids;  // [num_tokens]
  Matrix table;        // [vocab of this rank, hidden]
  int32_t vocab_begin;
  int num_tokens;
  float* out;  // [num_tokens, hidden]
};

// x += delta (when given), then out = x / sqrt(mean(x^2) + eps) * weight, per row.
struct ResidualRmsNormArgs {
  float* x;             // [num_rows, hidden], read and, with delta, written
  const float* delta;   // [num_rows, hidden], may be null
  const float* weight;  // [hidden]; null: only the addition is done and out is not touched
  float eps;
  int num_rows;
  int hidden;
  float* out;  // [num_rows, hidden], may be null when weight is null
};

// table[i] = (cos, sin) of position * theta^(-2j / head_dim) for j < head_dim / 2, angles computed in double.
struct RopeTableArgs {
  const int32_t* positions;  // [num_tokens]
  int num_tokens;
  int head_dim;
  double theta;
  float* cos;  // [num_tokens, head_dim / 2]
  float* sin;  // [num_tokens, head_dim / 2]
};

// In place per head: RMSNorm with one weight for all heads (when given), then half-split rotation (when
// given): (a, b) = (first half, second half) -> (a cos - b sin, b cos + a sin).
struct HeadNormRopeArgs {
  float* x;  // row i, head h at x + i * row_stride + h * head_dim
  int64_t row_stride;
  int num_rows;
  int num_heads;
  int head_dim;
  const float* weight;  // [head_dim], may be null: no norm
  float eps;
  const float* cos;  // [num_rows, head_dim / 2], may be null: no rotation
  const float* sin;  // as cos
};

// y = x W^T. The product of a row depends only on which side of num_prompt_rows it lies, never on num_rows:
// rows below it use the blocked product (a library), rows from it on the skinny one (bound by reading W
// once).
struct MatMulArgs {
  const float* x;  // row i at x + i * x_stride, k = w.cols
  int64_t x_stride;
  Matrix w;  // [n, k]
  int num_rows;
  int num_prompt_rows;  // <= num_rows
  float* y;             // row i at y + i * y_stride, n = w.rows
  int64_t y_stride;
};

// out = silu(gate) * up, with gate and up side by side in one row.
struct SiluGateArgs {
  const float* gate_up;  // [num_rows, 2 * ffn]: gate, then up
  int num_rows;
  int ffn;
  float* out;  // [num_rows, ffn]
};

// Scatters rows of K and V into a cache laid out [slot][kv_head][K|V][head_dim]. Tokens whose slot is
// negative are skipped.
struct WriteKvArgs {
  const float* k;  // row i, head h at k + i * row_stride + h * head_dim
  const float* v;  // as k
  int64_t row_stride;
  const int32_t* slots;  // [num_rows], -1: skip
  int num_rows;
  int kv_heads;
  int head_dim;
  float* cache;  // [slots, kv_heads, 2, head_dim]
};

// Scatters rows of index keys: cache[slots[i]] = keys[i]; negative slots are skipped.
struct WriteIndexKeysArgs {
  const float* keys;     // [num_rows, dim]
  const int32_t* slots;  // [num_rows], -1: skip
  int num_rows;
  int dim;
  float* cache;  // [slots, dim]
};

// The consecutive tokens of one sequence in this step.
struct SequenceSpan {
  int32_t row_begin;       // first row of this sequence
  int32_t row_count;       // >= 1
  int32_t start_position;  // logical position of its first row
  int32_t slot;            // sequence slot: names the ring and the block table
};

// Causal attention over the last `window` tokens, the current one included. Keys at positions >=
// start_position are taken from this step's k and v, earlier ones from the ring of the sequence, where
// position p lies at p mod ring_tokens. Query head h reads key/value head h / (heads / kv_heads). Scale
// 1/sqrt(head_dim).
struct WindowAttentionArgs {
  const float* q;  // row i, head h at q + i * row_stride + h * head_dim
  const float* k;  // row i, head h at k + i * row_stride + h * head_dim
  const float* v;  // as k
  int64_t row_stride;
  const float* ring;  // [sequence slots, ring_tokens, kv_heads, 2, head_dim]
  int ring_tokens;    // a multiple of kBlockTokens, >= window - 1 + kBlockTokens or so: ceil(window/64)+1
                      // blocks
  int window;
  const SequenceSpan* spans;  // [num_spans], host memory; rows of all spans are contiguous and ascending
  int num_spans;
  int num_rows;
  int heads;
  int kv_heads;
  int head_dim;
  float* out;  // [num_rows, heads, head_dim]
};

// One row that reads a paged cache: which block table, and how many leading tokens of it (its own included).
struct PagedRow {
  int32_t slot;    // sequence slot
  int32_t length;  // position + 1
};

// Causal attention over a whole paged cache: row i attends to positions [0, rows[i].length).
struct DenseAttentionArgs {
  const float* q;  // row i, head h at q + i * q_stride + h * head_dim
  int64_t q_stride;
  const float* cache;           // [slots, kv_heads, 2, head_dim]
  const int32_t* block_tables;  // [sequence slots, max_blocks]: block ids in logical order
  int max_blocks;
  const PagedRow* rows;  // [num_rows]
  int num_rows;
  int heads;
  int kv_heads;
  int head_dim;
  float* out;  // [num_rows, heads, head_dim]
};

// scores[i, s] = q[i] . key at logical position s, for s < rows[i].length; the rest of a row is not written.
// Source: CLSA, equation of the index; no scale, no activation, one head.
struct IndexScoresArgs {
  const float* q;               // [num_rows, dim]
  const float* keys;            // [slots, dim]
  const int32_t* block_tables;  // [sequence slots, max_blocks]
  int max_blocks;
  const PagedRow* rows;  // [num_rows]
  int num_rows;
  int dim;
  float* scores;  // row i at scores + i * score_stride
  int64_t score_stride;
};

// Exact selection: the top_k highest of scores[i, 0 .. rows[i].length), ties to the lowest position, all of
// them when there are fewer (invariant I6). -0 equals +0; NaN ranks below everything. Emits ascending
// positions.
struct TopKArgs {
  const float* scores;  // row i at scores + i * score_stride
  int64_t score_stride;
  const PagedRow* rows;  // [num_rows]
  int num_rows;
  int top_k;
  int32_t* positions;  // [num_rows, top_k]; entries past count are not written
  int32_t* count;      // [num_rows]
};

// slots[i, j] = cache slot of positions[i, j] through the block table of the row's sequence, for j <
// count[i].
struct TranslateIndexArgs {
  const int32_t* positions;  // [num_rows, top_k]
  const int32_t* count;      // [num_rows]
  const int32_t* block_tables;
  int max_blocks;
  const PagedRow* rows;  // [num_rows]
  int num_rows;
  int top_k;
  int32_t* slots;  // [num_rows, top_k]
};

// Attention of row i over the cached tokens slots[i, 0 .. count[i]), summed in that order.
struct SparseAttentionArgs {
  const float* q;  // row i, head h at q + i * q_stride + h * head_dim
  int64_t q_stride;
  const float* cache;    // [slots, kv_heads, 2, head_dim]
  const int32_t* slots;  // [num_rows, top_k]
  const int32_t* count;  // [num_rows]
  int top_k;
  int num_rows;
  int heads;
  int kv_heads;
  int head_dim;
  float* out;  // [num_rows, heads, head_dim]
};

// out[i] = src[rows[i]].
struct GatherRowsArgs {
  const float* src;     // [*, width]
  const int32_t* rows;  // [num_rows]
  int num_rows;
  int width;
  float* out;  // [num_rows, width]
};

// Copies whole cache blocks: for every pair, dst block = src block. Used when sequences part ways (n > 1).
struct CopyBlocksArgs {
  void* cache;
  int64_t block_bytes;
  const int32_t* pairs;  // [num_pairs, 2]: source, destination; no destination is also a source
  int num_pairs;
};

}  // namespace yoio::kernels

#endif  // YOIO_KERNELS_OPS_H_
