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
// strides count elements. What passes between operations and lies in the cache is an Activation: float on the
// CPU, bf16 on CUDA (Backend::activation_type); the residual, norm weights, scores and logits are float
// everywhere, and so is all arithmetic. No operation allocates, blocks on anything but its own work, or keeps
// a pointer after it returns. Results do not depend on the number of threads, nor, for any row, on which
// other rows run in the same call (invariant I5 of docs/architecture.md, which names CUDA's exceptions).
//
// Padding: a row whose slot is negative or whose length is 0 takes part in a call but means nothing. It reads
// no cache, writes none, and its outputs are finite. A step that is replayed for a fixed number of rows fills
// up with such rows.
#ifndef YOIO_KERNELS_OPS_H_
#define YOIO_KERNELS_OPS_H_

#include <cstdint>

#include "kernels/dtype.h"

namespace yoio::kernels {

inline constexpr int kBlockTokens = 64;          // tokens in one cache block
inline constexpr int kMostGeneratedTokens = 32;  // of one sequence in one step

// An element of the backend's activation type. Never defined: only its address is passed around.
struct Activation;

// The address `elements` of `type` behind `data`.
inline Activation* Advance(Activation* data, int64_t elements, DType type) {
  return reinterpret_cast<Activation*>(reinterpret_cast<char*>(data) +
                                       elements * static_cast<int64_t>(SizeOf(type)));
}
inline const Activation* Advance(const Activation* data, int64_t elements, DType type) {
  return Advance(const_cast<Activation*>(data), elements, type);
}

// A weight matrix as stored in the checkpoint.
struct Matrix {
  const void* data = nullptr;  // [rows, cols], 64-byte aligned
  DType dtype = DType::kBF16;
  int64_t rows = 0;
  int64_t cols = 0;
};

// out[i] = table[id - vocab_begin], or zeros when that id belongs to another rank's shard: the sum over ranks
// is the embedding, and exact in any activation type that holds the table's values. A negative id -1 - r
// stands for previous[r].
struct EmbedArgs {
  const int32_t* ids;       // [num_tokens]
  const int32_t* previous;  // ids drawn by the step before; may be null when no id is negative
  Matrix table;             // [vocab of this rank, hidden]
  int32_t vocab_begin;
  int num_tokens;
  Activation* out;  // [num_tokens, hidden], rounded to the activation type
};

// x += delta (when given), then out = x / sqrt(mean(x^2) + eps) * weight, per row. With `starts`, x = delta
// instead: a residual begins, and what x held does not matter.
struct ResidualRmsNormArgs {
  float* x;                 // [num_rows, hidden], read (unless it starts) and, with delta, written
  const Activation* delta;  // [num_rows, hidden], may be null
  const float* weight;      // [hidden]; null: only the addition is done and out is not touched
  float eps;
  int num_rows;
  int hidden;
  Activation* out;      // [num_rows, hidden], may be null when weight is null
  bool starts = false;  // only with a delta
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

// In place per head: RMSNorm with one weight for all query heads and one for all key heads (when given), then
// half-split rotation (when given): (a, b) = (first half, second half) -> (a cos - b sin, b cos + a sin).
struct HeadNormRopeArgs {
  Activation* x;  // row i, head h at x + i * row_stride + h * head_dim: query heads, key heads behind them
  int64_t row_stride;
  int num_rows;
  int q_heads;  // may be 0
  int k_heads;  // may be 0
  int head_dim;
  const float* q_weight;  // [head_dim], may be null: no norm
  const float* k_weight;  // as q_weight
  float eps;
  const float* cos;  // [num_rows, head_dim / 2], may be null: no rotation
  const float* sin;  // as cos
};

// y = x W^T. The product of a row depends only on which side of num_prompt_rows it lies, never on num_rows:
// rows below it use the blocked product (a library), rows from it on the skinny one (bound by reading W
// once). CUDA multiplies by bf16 weights only, wants k and both strides to be multiples of 8 and x, y to lie
// at multiples of 16 bytes, and runs more than 64 rows of the second kind as if they were of the first.
struct MatMulArgs {
  const Activation* x;  // row i at x + i * x_stride, k = w.cols
  int64_t x_stride;
  Matrix w;  // [n, k]
  int num_rows;
  int num_prompt_rows;  // <= num_rows
  void* y;              // row i at y + i * y_stride, n = w.rows
  DType y_type;         // the activation type, or kF32
  int64_t y_stride;
};

// out = silu(gate) * up, with gate and up side by side in one row.
struct SiluGateArgs {
  const Activation* gate_up;  // [num_rows, 2 * ffn]: gate, then up
  int num_rows;
  int ffn;
  Activation* out;  // [num_rows, ffn]
};

// The first half of a feed-forward layer: out = silu(x Wgate^T) * (x Wup^T), rows divided as in MatMul. Where
// the two products and the gate are one pass over W, nothing but `out` is written.
struct GateUpArgs {
  const Activation* x;  // [num_rows, k = w.cols]
  Matrix w;             // [2 * ffn, k]: gate, then up
  int num_rows;
  int num_prompt_rows;  // <= num_rows
  Activation* scratch;  // [num_rows, 2 * ffn], contents undefined afterwards
  Activation* out;      // [num_rows, ffn]
};

// Scatters rows of K and V into a cache laid out [slot][kv_head][K|V][head_dim]. Tokens whose slot is
// negative are skipped.
struct WriteKvArgs {
  const Activation* k;  // row i, head h at k + i * row_stride + h * head_dim
  const Activation* v;  // as k
  int64_t row_stride;
  const int32_t* slots;  // [num_rows], -1: skip
  int num_rows;
  int kv_heads;
  int head_dim;
  Activation* cache;  // [slots, kv_heads, 2, head_dim]
};

// Scatters rows of index keys: cache[slots[i]] = keys[i]; negative slots are skipped.
struct WriteIndexKeysArgs {
  const Activation* keys;  // [num_rows, dim]
  const int32_t* slots;    // [num_rows], -1: skip
  int num_rows;
  int dim;
  Activation* cache;  // [slots, dim]
};

// The consecutive tokens of one sequence in this step.
struct SequenceSpan {
  int32_t row_begin;       // first row of this sequence
  int32_t row_count;       // >= 1
  int32_t start_position;  // logical position of its first row
  int32_t slot;            // sequence slot: names the ring and the block table
};

// One row that reads a paged cache: which block table, and how many leading tokens of it (its own included).
struct PagedRow {
  int32_t slot;    // sequence slot
  int32_t length;  // position + 1; 0: padding
};

// Causal attention over the last `window` tokens, the current one included; then K and V of the step's tokens
// go to the ring. Keys at positions >= the start_position of a row's span are taken from this step's k and v,
// earlier ones from the ring of the sequence, where position p lies at p mod ring_tokens. Query head h reads
// key/value head h / (heads / kv_heads). Scale 1/sqrt(head_dim).
struct WindowAttentionArgs {
  const Activation* q;  // row i, head h at q + i * row_stride + h * head_dim
  const Activation* k;  // row i, head h at k + i * row_stride + h * head_dim
  const Activation* v;  // as k
  int64_t row_stride;
  Activation* ring;           // [sequence slots, ring_tokens, kv_heads, 2, head_dim]
  const int32_t* ring_slots;  // [num_rows] where in the ring a row's K,V go; -1: nowhere
  int ring_tokens;            // a multiple of kBlockTokens, at least window + kBlockTokens - 1
  int window;
  // Every row lies in one span; spans are contiguous and ascend. Null: each row is a span of its own, and
  // only `rows` tells its sequence and position.
  const SequenceSpan* spans;  // [num_spans], host memory
  int num_spans;
  const PagedRow* rows;  // [num_rows]
  int num_rows;
  // The rows from it on are generated: a span has at most kMostGeneratedTokens of them, and their bits are
  // those of spans of one row. Not read without spans.
  int num_prompt_rows;
  int heads;
  int kv_heads;
  int head_dim;
  Activation* out;  // [num_rows, heads, head_dim]
};

// Causal attention over a whole paged cache: row i attends to positions [0, rows[i].length).
struct DenseAttentionArgs {
  const Activation* q;  // row i, head h at q + i * q_stride + h * head_dim
  int64_t q_stride;
  const Activation* cache;      // [slots, kv_heads, 2, head_dim]
  const int32_t* block_tables;  // [sequence slots, max_blocks]: block ids in logical order
  int max_blocks;
  const PagedRow* rows;  // [num_rows]
  int num_rows;
  int heads;
  int kv_heads;
  int head_dim;
  Activation* out;  // [num_rows, heads, head_dim]
};

// scores[i, s] = q[i] . key at logical position s, for s < rows[i].length; the rest of a row is not written.
// Source: CLSA, equation of the index; no scale, no activation, one head.
struct IndexScoresArgs {
  const Activation* q;          // [num_rows, dim]
  const Activation* keys;       // [slots, dim]
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
// positions, and the cache slots they lie at: the block table of the row's sequence at position / 64, times
// 64, plus position mod 64.
struct TopKArgs {
  const float* scores;  // row i at scores + i * score_stride
  int64_t score_stride;
  const int32_t* block_tables;  // [sequence slots, max_blocks]: block ids in logical order
  int max_blocks;
  const PagedRow* rows;  // [num_rows]
  int num_rows;
  int top_k;
  int32_t* positions;  // [num_rows, top_k]; entries past count are not written
  int32_t* slots;      // as positions
  int32_t* count;      // [num_rows]; may be null: it is min(length, top_k)
};

// Attention of row i over the cached tokens slots[i, 0 .. count[i]), summed in that order.
struct SparseAttentionArgs {
  const Activation* q;  // row i, head h at q + i * q_stride + h * head_dim
  int64_t q_stride;
  const Activation* cache;  // [slots, kv_heads, 2, head_dim]
  const int32_t* slots;     // [num_rows, top_k]
  const int32_t* count;     // [num_rows]
  int top_k;
  int num_rows;
  int heads;
  int kv_heads;
  int head_dim;
  Activation* out;  // [num_rows, heads, head_dim]
};

// out[i] = src[rows[i]]. Rows are bytes: residual and activations alike.
struct GatherRowsArgs {
  const void* src;      // [*, row_bytes]
  const int32_t* rows;  // [num_rows]
  int num_rows;
  int64_t row_bytes;  // a multiple of 4
  void* out;          // [num_rows, row_bytes]
};

// Copies whole cache blocks: for every pair, to[destination] = from[source]. Both sides may be the same
// memory, and either may be the host's (Backend::AllocateHost), which the device then reads or writes by
// itself.
struct CopyBlocksArgs {
  const void* from;
  int64_t from_stride;  // bytes between blocks; as to_stride and block_bytes a multiple of 16 on CUDA
  void* to;
  int64_t to_stride;
  int64_t block_bytes;
  const int32_t* pairs;  // [num_pairs, 2]: source, destination; no block is written that is also read
  int num_pairs;
};

// words[updates[i].place] = updates[i].word: how block tables grow. No place is named twice.
struct WordUpdate {
  int32_t place;
  int32_t word;
};
struct UpdateWordsArgs {
  const WordUpdate* updates;  // [num_updates]
  int num_updates;
  int32_t* words;
};

// What was seen of each token id in one sequence: the highest bit says that it occurred in prompt or output,
// the rest counts how often it was output. A history is [vocab] of these.
inline constexpr uint32_t kSeenBit = uint32_t{1} << 31;

// What is done to a row of logits before a token is drawn from it.
struct AdjustRow {
  int32_t logits_row;  // negative: nothing, and no output
  int32_t slot;        // whose history the penalties read; negative: no penalties
  float repetition_penalty;
  float frequency_penalty;
  float presence_penalty;
  int32_t bias_begin, bias_count;  // a range of AdjustLogitsArgs::biases, ids unique
  int32_t ban_begin, ban_count;    // a range of AdjustLogitsArgs::bans
};
struct LogitBias {
  int32_t id;
  float bias;
};

// out[i] = the logits of rows[i], adjusted, in order: of ids in the history, divided by the repetition
// penalty when positive, else multiplied by it; of those output, less the frequency penalty times their
// count, less the presence penalty; plus biases; bans are minus infinity. The arithmetic is that of
// kernels/logit_math.h, bit by bit. A NaN stays one, whatever is asked for it.
struct AdjustLogitsArgs {
  const float* logits;  // row r at logits + r * logits_stride
  int64_t logits_stride;
  int vocab;
  const AdjustRow* rows;  // [num_rows]
  int num_rows;
  const LogitBias* biases;
  const int32_t* bans;
  const uint32_t* history;  // [slots, vocab]
  float* out;               // row i at out + i * logits_stride
};

// Adds ids[i] to the history of rows[i].slot. Nothing for a negative slot, or an id outside of this part of
// the vocabulary.
struct RecordTokensArgs {
  const int32_t* ids;     // [num_rows]
  const AdjustRow* rows;  // [num_rows], slots unique
  int num_rows;
  int vocab;
  uint32_t* history;     // [slots, vocab]
  int32_t first_id = 0;  // of the part
};

// How one token is drawn from one row of logits.
struct DrawRow {
  int32_t logits_row;  // negative: none is, and no output
  float temperature;   // 0: greedy
  int32_t top_k;       // 0: off
  float top_p;         // 1: off
  float min_p;         // 0: off
  uint32_t seed_low;
  uint32_t seed_high;
  uint32_t sample_index;
  uint32_t output_position;
  int32_t is_adjusted = 0;  // 1: the logits are those of DrawArgs::adjusted
};

// The best token of one part of the vocabulary. An id of -1: a logit of the part is NaN.
struct Candidate {
  int32_t id;
  float logit;
};

// ids[i] = the token drawn for rows[i] as kernels/draw.h defines it; -1 when one of its logits is NaN.
//
// Or, from one part of the vocabulary: candidates[i] = the token that would be drawn if there were no other
// part. A row with top-k, top-p or min-p (and a temperature) has no candidates: it is drawn whole. The
// candidate of an empty part is its first id at minus infinity.
struct DrawArgs {
  const float* logits;  // row r at logits + r * logits_stride
  int64_t logits_stride;
  int vocab;
  const DrawRow* rows;  // [num_rows]
  int num_rows;
  int32_t* ids;  // [num_rows]; null: candidates are asked for
  const float* adjusted =
      nullptr;           // row i at adjusted + i * logits_stride; may be null when none is adjusted
  int32_t first_id = 0;  // of the part; a multiple of 4, unless the part is empty
  Candidate* candidates = nullptr;  // [num_rows], when ids is null
};

// ids[i] = the token of candidates[.., i] that Draw would have drawn for rows[i] from the whole vocabulary;
// -1 when one of them is -1. Nothing for a row with a negative logits_row.
struct PickArgs {
  const Candidate* candidates;  // [num_parts, num_rows], of parts in ascending order of ids
  int num_parts;
  const DrawRow* rows;  // [num_rows]
  int num_rows;
  int32_t* ids;  // [num_rows]
};

// Row rows[i] of out = row i of all parts side by side, as far as its `width`.
struct JoinPartsArgs {
  const float* parts;  // [num_parts, num_rows, part_width]
  int num_parts;
  int part_width;
  const int32_t* rows;  // [num_rows], unique
  int num_rows;
  int width;   // at most num_parts * part_width
  float* out;  // [*, width]
};

// Whose log-probabilities are wanted from a row of logits.
struct LogprobRow {
  int32_t logits_row;  // negative: none, and no output
  int32_t id;          // -1 - r stands for drawn[r]
  int32_t top_n;       // best tokens beside it, at most LogprobsArgs::max_top
};
struct TokenLogprob {
  int32_t id;
  float logprob;
};

// out[i] = the token of rows[i], then the top_n best, highest first, ties to the lowest id; never one at
// minus infinity: an id of -1 stands for each that is missing. The log-probability is logit - highest -
// log(sum of FixedWeight(e^(x - highest))) (kernels/logit_math.h), the same bits everywhere; it is NaN, and
// all of the best are missing, when a logit is NaN or the token is negative.
struct LogprobsArgs {
  const float* logits;  // row r at logits + r * logits_stride
  int64_t logits_stride;
  int vocab;
  const LogprobRow* rows;  // [num_rows]
  int num_rows;
  const int32_t* drawn;  // may be null when every token is given
  int max_top;
  TokenLogprob* out;  // [num_rows, 1 + max_top]; what is behind top_n is not written
};

// Where time goes: reads the device's clock once everything queued before has ended. With t its time in ns,
// times[part] += t - times[0], then times[0] = t; part 0 is the beginning, which sets times[0] = t and the
// others to zero. Then, where given, *progress = value: the host may read that at any time, also while the
// device hangs. Only differences of t mean something; its steps are a microsecond or less.
struct StampArgs {
  int64_t* times;  // [1 + num_parts]
  int part;        // 0 .. num_parts
  int num_parts;
  int32_t* progress;  // host memory (Backend::AllocateHost), which the device writes by itself; may be null
  int32_t value;
};

// Device memory where collectives add up how long the stream was in them, in ns.
struct WaitClock {
  int64_t since;  // when the one began that is under way
  int64_t waited;
};

}  // namespace yoio::kernels

#endif  // YOIO_KERNELS_OPS_H_
