// The operations that only move: Embed, WriteKv, WriteIndexKeys, GatherRows, JoinParts, CopyBlocks,
// UpdateWords.
//
// Floor: bytes read and written at the speed of memory for prompt rows (WriteKv of 8192 tokens with 4 heads x
// 128: 34 MB, 11 us); latency alone for the few rows of a decode step. A Word is what one thread moves at
// once: 16 bytes wherever widths and addresses allow, else one element.
#include <algorithm>

#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/vectors.cuh"

namespace yoio::kernels::cuda {
namespace {

constexpr int kMaxThreads = 256;

// A row is one blockIdx.x, and its words are divided over the threads of all blockIdx.y.
LaunchShape ForRows(int num_rows, int64_t row_words) {
  const int64_t threads = std::min<int64_t>(kMaxThreads, (row_words + 31) / 32 * 32);
  if (row_words == 0) return {};
  return {dim3(num_rows, (row_words + threads - 1) / threads), static_cast<unsigned>(threads)};
}

__device__ __forceinline__ int WordOfRow() { return blockIdx.y * blockDim.x + threadIdx.x; }

__device__ __forceinline__ __nv_bfloat16 ToHalf(float value) { return __float2bfloat16_rn(value); }
__device__ __forceinline__ __nv_bfloat16 ToHalf(__nv_bfloat16 value) { return value; }

__device__ __forceinline__ uint4 LoadHalves(const float* data) {
  float values[kVector];
  LoadFloats(data, values);
  return Narrow(values);
}

__device__ __forceinline__ uint4 LoadHalves(const __nv_bfloat16* data) {
  return *reinterpret_cast<const uint4*>(data);
}

// The row of the table that token i names; negative when another rank has it.
__device__ __forceinline__ int64_t TableRow(const EmbedArgs& args, int i) {
  int32_t id = args.ids[i];
  if (id < 0) id = args.previous[-1 - id];
  const int32_t row = id - args.vocab_begin;
  return row < args.table.rows ? row : -1;
}

template <typename T>
__global__ void __launch_bounds__(kMaxThreads) EmbedVectors(EmbedArgs args) {
  AllowNext();
  WaitForPrevious();
  const int64_t hidden = args.table.cols, column = int64_t{WordOfRow()} * kVector;
  if (column >= hidden) return;
  const int64_t row = TableRow(args, blockIdx.x);
  uint4 halves = {0, 0, 0, 0};
  if (row >= 0) halves = LoadHalves(static_cast<const T*>(args.table.data) + row * hidden + column);
  *reinterpret_cast<uint4*>(Halves(args.out) + blockIdx.x * hidden + column) = halves;
}

template <typename T>
__global__ void __launch_bounds__(kMaxThreads) EmbedValues(EmbedArgs args) {
  AllowNext();
  WaitForPrevious();
  const int64_t hidden = args.table.cols, column = WordOfRow();
  if (column >= hidden) return;
  const int64_t row = TableRow(args, blockIdx.x);
  const T* table = static_cast<const T*>(args.table.data);
  const __nv_bfloat16 zero = __ushort_as_bfloat16(0);
  Halves(args.out)[blockIdx.x * hidden + column] = row >= 0 ? ToHalf(table[row * hidden + column]) : zero;
}

// Words in the order of the cache: [row][kv_head][K|V][words of a head].
template <typename Word>
__global__ void __launch_bounds__(kMaxThreads)
    WriteKvKernel(WriteKvArgs args, int head_words, int64_t stride_words) {
  AllowNext();
  WaitForPrevious();
  const int row_words = args.kv_heads * 2 * head_words, word = WordOfRow();
  const int64_t slot = args.slots[blockIdx.x];
  if (word >= row_words || slot < 0) return;
  const int part = word / head_words, in_head = word % head_words;
  const Word* in = reinterpret_cast<const Word*>(part % 2 == 0 ? args.k : args.v);
  reinterpret_cast<Word*>(args.cache)[slot * row_words + word] =
      in[blockIdx.x * stride_words + part / 2 * head_words + in_head];
}

template <typename Word>
__global__ void __launch_bounds__(kMaxThreads)
    WriteIndexKeysKernel(WriteIndexKeysArgs args, int64_t row_words) {
  AllowNext();
  WaitForPrevious();
  const int64_t slot = args.slots[blockIdx.x];
  if (WordOfRow() >= row_words || slot < 0) return;
  reinterpret_cast<Word*>(args.cache)[slot * row_words + WordOfRow()] =
      reinterpret_cast<const Word*>(args.keys)[blockIdx.x * row_words + WordOfRow()];
}

template <typename Word>
__global__ void __launch_bounds__(kMaxThreads) GatherRowsKernel(GatherRowsArgs args, int64_t row_words) {
  AllowNext();
  WaitForPrevious();
  if (WordOfRow() >= row_words) return;
  static_cast<Word*>(args.out)[blockIdx.x * row_words + WordOfRow()] =
      static_cast<const Word*>(args.src)[args.rows[blockIdx.x] * row_words + WordOfRow()];
}

template <typename Word>
__global__ void __launch_bounds__(kMaxThreads)
    JoinPartsKernel(JoinPartsArgs args, int part_words, int64_t row_words) {
  AllowNext();
  WaitForPrevious();
  const int word = WordOfRow();
  if (word >= row_words) return;
  const int64_t part_row = int64_t{word / part_words} * args.num_rows + blockIdx.x;
  reinterpret_cast<Word*>(args.out)[args.rows[blockIdx.x] * row_words + word] =
      reinterpret_cast<const Word*>(args.parts)[part_row * part_words + word % part_words];
}

// A row is a pair. One side may be the host's memory: then it takes as long as the bus, whose latency the
// words of many blocks under way at once hide.
__global__ void __launch_bounds__(kMaxThreads) CopyBlocksKernel(CopyBlocksArgs args, int64_t block_words) {
  AllowNext();
  WaitForPrevious();
  if (WordOfRow() >= block_words) return;
  const int32_t* pair = args.pairs + 2 * blockIdx.x;
  const char* from = static_cast<const char*>(args.from) + pair[0] * args.from_stride;
  char* to = static_cast<char*>(args.to) + pair[1] * args.to_stride;
  reinterpret_cast<uint4*>(to)[WordOfRow()] = reinterpret_cast<const uint4*>(from)[WordOfRow()];
}

// All updates are one row.
__global__ void __launch_bounds__(kMaxThreads) UpdateWordsKernel(UpdateWordsArgs args) {
  AllowNext();
  WaitForPrevious();
  if (WordOfRow() >= args.num_updates) return;
  const WordUpdate update = args.updates[WordOfRow()];
  args.words[update.place] = update.word;
}

}  // namespace

void Embed(const EmbedArgs& args, CudaStream& stream) {
  const bool floats = args.table.dtype == DType::kF32;
  if (args.table.cols % kVector == 0) {
    Launch(stream, "Embed", floats ? EmbedVectors<float> : EmbedVectors<__nv_bfloat16>,
           ForRows(args.num_tokens, args.table.cols / kVector), args);
  } else {
    Launch(stream, "Embed", floats ? EmbedValues<float> : EmbedValues<__nv_bfloat16>,
           ForRows(args.num_tokens, args.table.cols), args);
  }
}

void WriteKv(const WriteKvArgs& args, CudaStream& stream) {
  const int64_t row_values = int64_t{args.kv_heads} * 2 * args.head_dim;
  if (args.head_dim % kVector == 0 && IsVectorAligned(args.k, args.row_stride) &&
      IsVectorAligned(args.v, args.row_stride)) {
    Launch(stream, "WriteKv", WriteKvKernel<uint4>, ForRows(args.num_rows, row_values / kVector), args,
           args.head_dim / kVector, args.row_stride / kVector);
  } else {
    Launch(stream, "WriteKv", WriteKvKernel<__nv_bfloat16>, ForRows(args.num_rows, row_values), args,
           args.head_dim, args.row_stride);
  }
}

void WriteIndexKeys(const WriteIndexKeysArgs& args, CudaStream& stream) {
  const bool vectors = args.dim % kVector == 0;
  const int64_t row_words = args.dim / (vectors ? kVector : 1);
  Launch(stream, "WriteIndexKeys",
         vectors ? WriteIndexKeysKernel<uint4> : WriteIndexKeysKernel<__nv_bfloat16>,
         ForRows(args.num_rows, row_words), args, row_words);
}

void GatherRows(const GatherRowsArgs& args, CudaStream& stream) {
  const bool vectors = args.row_bytes % sizeof(uint4) == 0;
  const int64_t row_words = args.row_bytes / (vectors ? sizeof(uint4) : sizeof(uint32_t));
  Launch(stream, "GatherRows", vectors ? GatherRowsKernel<uint4> : GatherRowsKernel<uint32_t>,
         ForRows(args.num_rows, row_words), args, row_words);
}

void JoinParts(const JoinPartsArgs& args, CudaStream& stream) {
  constexpr int kFloats = sizeof(float4) / sizeof(float);
  const bool vectors = args.part_width % kFloats == 0 && args.width % kFloats == 0;
  const int floats = vectors ? kFloats : 1;
  const int64_t row_words = args.width / floats;
  Launch(stream, "JoinParts", vectors ? JoinPartsKernel<float4> : JoinPartsKernel<float>,
         ForRows(args.num_rows, row_words), args, args.part_width / floats, row_words);
}

// A block is 64 tokens of at least one bf16 each, so it always consists of vectors.
void CopyBlocks(const CopyBlocksArgs& args, CudaStream& stream) {
  const int64_t block_words = args.block_bytes / sizeof(uint4);
  Launch(stream, "CopyBlocks", CopyBlocksKernel, ForRows(args.num_pairs, block_words), args, block_words);
}

void UpdateWords(const UpdateWordsArgs& args, CudaStream& stream) {
  Launch(stream, "UpdateWords", UpdateWordsKernel, ForRows(1, args.num_updates), args);
}

}  // namespace yoio::kernels::cuda
