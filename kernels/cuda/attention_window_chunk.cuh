// What the two kernels for chunks of prompts share: how their blocks divide the work, how queries, keys and
// values come to shared memory, and the softmax along the keys.
//
// A block takes one key/value head and kRows rows of its group of query heads: row i of a span and head h of
// the group are packed row i * group + h, so that a block spans few positions (26 for 128 rows of five heads)
// and little of what it computes lies outside their windows. Scores are never stored: the softmax runs along
// the keys, rescaling what it has whenever a row's maximum grows. Tiles of 64 keys begin at multiples of 64
// of the position, in the ring as in the chunk, and a tile that a row does not see changes nothing in it: the
// bits of a row do not depend on how its prompt is cut into chunks.
#ifndef YOIO_KERNELS_CUDA_ATTENTION_WINDOW_CHUNK_CUH_
#define YOIO_KERNELS_CUDA_ATTENTION_WINDOW_CHUNK_CUH_

#include <cstdint>

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/mma.cuh"
#include "kernels/cuda/vectors.cuh"

namespace yoio::kernels::cuda::window {

using Half = __nv_bfloat16;

constexpr int kWarp = 32;
constexpr int kKeys = 64;  // of a tile; divides ring_tokens
constexpr float kInfinity = INFINITY;

// What turns scores into exponents of two: exp(x / sqrt(d)) = 2^(x log2(e) / sqrt(d)).
__device__ __forceinline__ float ScoreScale(int head_dim) {
  return 1.44269504f / sqrtf(static_cast<float>(head_dim));
}

// The spans of one launch, each cut into tiles of so many packed rows.
struct SpanBatch {
  static constexpr int kMaxSpans = 64;

  int num_spans = 0;
  int num_tiles = 0;
  int group = 1;
  uint32_t group_inverse = 0;  // 2^31 / group, rounded up
  SequenceSpan spans[kMaxSpans];
  int32_t first_tile[kMaxSpans];

  void Cut(int heads_of_group, int tile_rows) {
    group = heads_of_group;
    group_inverse = ((1u << 31) + group - 1) / group;
    num_tiles = 0;
    for (int i = 0; i < num_spans; ++i) {
      first_tile[i] = num_tiles;
      num_tiles += (spans[i].row_count * group + tile_rows - 1) / tile_rows;
    }
  }
};

// What one block computes: packed rows [first, first + num_rows) of a span and a key/value head.
struct Job {
  SequenceSpan span;
  int kv_head;
  int group;
  uint32_t group_inverse;
  int first;
  int first_tile;  // of keys that its rows see
  int last_tile;
  int first_key;
  int last_key;

  __device__ int num_packed() const { return span.row_count * group; }
  // packed / group, exact below 2^31 / group.
  __device__ int RowOf(int packed) const { return __umulhi(2 * packed, group_inverse); }
  // Position of a packed row; the last row's for those behind the end.
  __device__ int PositionOf(int packed) const {
    return span.start_position + min(RowOf(packed), span.row_count - 1);
  }
};

// The job of tile `tile` of the batch, whose tiles are of num_rows packed rows.
__device__ inline Job FindJob(const WindowAttentionArgs& args, const SpanBatch& batch, int tile, int kv_head,
                              int num_rows) {
  int i = 0;
  while (i + 1 < batch.num_spans && tile >= batch.first_tile[i + 1]) ++i;
  Job job;
  job.span = batch.spans[i];
  job.kv_head = kv_head;
  job.group = batch.group;
  job.group_inverse = batch.group_inverse;
  job.first = (tile - batch.first_tile[i]) * num_rows;
  job.first_key = max(0, job.PositionOf(job.first) - args.window + 1);
  job.last_key = job.PositionOf(job.first + num_rows - 1);
  job.first_tile = job.first_key / kKeys;
  job.last_tile = job.last_key / kKeys;
  return job;
}

// Where a packed row's head begins in rows that are row_stride apart.
__device__ __forceinline__ int64_t QueryOffset(const WindowAttentionArgs& args, const Job& job, int packed,
                                               int64_t row_stride) {
  const int row = job.RowOf(packed), head = job.kv_head * job.group + packed - row * job.group;
  return (job.span.row_begin + row) * row_stride + head * args.head_dim;
}

// Brings the block's queries to a tile of kRows rows, with kThreads threads.
template <int kDim, int kRows, int kThreads>
__device__ __forceinline__ void CopyQueries(const WindowAttentionArgs& args, const Job& job, int thread,
                                            Half* q) {
  constexpr int kChunks = kDim / kVector;
  const int column = thread % kChunks * kVector;
#pragma unroll 4
  for (int r = thread / kChunks; r < kRows; r += kThreads / kChunks) {
    const int packed = job.first + r;
    const bool valid = packed < job.num_packed() && column < args.head_dim;
    CopyAsync(q + TilePlace<kDim, kRows>(r, thread % kChunks),
              Halves(args.q) + QueryOffset(args, job, packed, args.row_stride) + column, valid);
  }
}

// Brings keys and values of positions [64 tile, 64 tile + 64), those before the chunk from the ring; zeros
// where no row of the block sees one. A thread takes every kStep-th row: few instructions each, for whoever
// copies has little time.
template <int kDim, int kThreads>
__device__ __forceinline__ void CopyKeys(const WindowAttentionArgs& args, const Job& job, int tile,
                                         int thread, Half* k, Half* v) {
  constexpr int kChunks = kDim / kVector;
  constexpr int kStep = kThreads / kChunks;
  constexpr int kCount = kKeys / kStep;
  const int first_row = thread / kChunks, chunk = thread % kChunks, column = chunk * kVector;
  const int first = tile * kKeys + first_row;  // position
  const unsigned num_keys = column < args.head_dim ? job.last_key - job.first_key + 1 : 0;
  const auto copy = [&](int begin, int end, const Half* key, int64_t stride, int64_t value_offset) {
#pragma unroll
    for (int i = begin; i < end; ++i) {
      // Eight rows further the swizzle is the same, and the place a constant away.
      const int place = kStep % 8 == 0
                            ? TilePlace<kDim, kKeys>(first_row, chunk) + i * kStep * kPanelWidth<kDim>
                            : TilePlace<kDim, kKeys>(first_row + i * kStep, chunk);
      const bool valid = static_cast<unsigned>(first + i * kStep - job.first_key) < num_keys;
      CopyAsync(k + place, key, valid);
      CopyAsync(v + place, key + value_offset, valid);
      key += kStep * stride;
    }
  };
  const auto copy_new = [&](int begin, int end) {
    const int64_t row = job.span.row_begin + first + begin * kStep - job.span.start_position;
    const int64_t offset = row * args.row_stride + job.kv_head * args.head_dim + column;
    copy(begin, end, Halves(args.k) + offset, args.row_stride, Halves(args.v) - Halves(args.k));
  };
  if (tile * kKeys >= job.span.start_position) {
    copy_new(0, kCount);
    return;
  }
  const int num_old = min(kCount, max(0, (job.span.start_position - first + kStep - 1) / kStep));
  const int64_t slot =
      int64_t{job.span.slot} * args.ring_tokens + tile * kKeys % args.ring_tokens + first_row;
  const int64_t offset = (slot * args.kv_heads + job.kv_head) * 2 * args.head_dim + column;
  copy(0, num_old, Halves(args.ring) + offset, int64_t{2} * args.kv_heads * args.head_dim, args.head_dim);
  copy_new(num_old, kCount);
}

// What a warp has of its 16 * kTiles rows, as fragments of C: the lane's rows are [16-row tile][upper, lower
// half].
template <int kDim, int kTiles>
struct Rows {
  int first_position;  // of the warp's rows
  int last_position;
  int position[kTiles][2];
  float maximum[kTiles][2];  // of the scores so far, as exponents of two
  float sum[kTiles][2];      // of the lane's share of the weights
  float out[kTiles][kDim / 8][4];
};

template <int kTiles>
using Scores = float[kTiles][kKeys / 8][4];

// `first` is the warp's first packed row.
template <int kDim, int kTiles>
__device__ __forceinline__ void StartRows(const Job& job, int first, Rows<kDim, kTiles>& rows) {
  rows.first_position = job.PositionOf(first);
  rows.last_position = job.PositionOf(first + 16 * kTiles - 1);
#pragma unroll
  for (int t = 0; t < kTiles; ++t) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      rows.position[t][half] = job.PositionOf(first + t * 16 + half * 8 + threadIdx.x % kWarp / 4);
      rows.maximum[t][half] = -kInfinity;
      rows.sum[t][half] = 0.0f;
    }
#pragma unroll
    for (int n = 0; n < kDim / 8; ++n) {
#pragma unroll
      for (float& out : rows.out[t][n]) out = 0.0f;
    }
  }
}

// Scores of keys outside a row's window become -infinity.
template <int kDim, int kTiles>
__device__ __forceinline__ void MaskTile(const Rows<kDim, kTiles>& rows, int tile, int window,
                                         Scores<kTiles>& scores) {
  const int first_key = tile * kKeys, last_key = first_key + kKeys - 1;
  if (last_key <= rows.first_position && first_key > rows.last_position - window) return;  // all is seen
  const int first = first_key + threadIdx.x % 4 * 2;
#pragma unroll
  for (int t = 0; t < kTiles; ++t) {
#pragma unroll
    for (int n = 0; n < kKeys / 8; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int position = rows.position[t][i / 2], key = first + n * 8 + i % 2;
        if (key > position || key <= position - window) scores[t][n][i] = -kInfinity;
      }
    }
  }
}

// Turns scores into weights, relative to the rows' new maxima; `factor` is what brings the sums so far to
// those.
template <int kDim, int kTiles>
__device__ __forceinline__ void WeighTile(float scale, Rows<kDim, kTiles>& rows, Scores<kTiles>& scores,
                                          float (&factor)[kTiles][2]) {
#pragma unroll
  for (int t = 0; t < kTiles; ++t) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float maximum = -kInfinity;
#pragma unroll
      for (int n = 0; n < kKeys / 8; ++n) {
        maximum = fmaxf(maximum, fmaxf(scores[t][n][2 * half], scores[t][n][2 * half + 1]));
      }
      maximum = fmaxf(maximum, __shfl_xor_sync(~0u, maximum, 1));
      maximum = fmaxf(maximum, __shfl_xor_sync(~0u, maximum, 2));
      maximum = fmaxf(rows.maximum[t][half], maximum * scale);
      const float base = maximum == -kInfinity ? 0.0f : maximum;  // a row that has seen no key yet
      factor[t][half] = Exp2(rows.maximum[t][half] - base);
      rows.maximum[t][half] = maximum;
      float sum = 0.0f;
#pragma unroll
      for (int n = 0; n < kKeys / 8; ++n) {
#pragma unroll
        for (int i = 2 * half; i < 2 * half + 2; ++i) {
          scores[t][n][i] = Exp2(fmaf(scores[t][n][i], scale, -base));
          sum += scores[t][n][i];
        }
      }
      rows.sum[t][half] = rows.sum[t][half] * factor[t][half] + sum;
    }
  }
}

template <int kDim, int kTiles>
__device__ __forceinline__ void RescaleRows(const float (&factor)[kTiles][2], Rows<kDim, kTiles>& rows) {
#pragma unroll
  for (int t = 0; t < kTiles; ++t) {
#pragma unroll
    for (int n = 0; n < kDim / 8; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) rows.out[t][n][i] *= factor[t][i / 2];
    }
  }
}

// Weights 16 step to 16 step + 15 of a 16-row tile, narrowed: a fragment of C is one of A.
__device__ __forceinline__ void NarrowWeights(const float (&weights)[kKeys / 8][4], int step,
                                              uint32_t (&a)[4]) {
  const float(&low)[4] = weights[2 * step], (&high)[4] = weights[2 * step + 1];
  a[0] = NarrowPair(low[0], low[1]);
  a[1] = NarrowPair(low[2], low[3]);
  a[2] = NarrowPair(high[0], high[1]);
  a[3] = NarrowPair(high[2], high[3]);
}

// Divides by the sums and writes the warp's rows, packed rows from `first` on, by way of the rows from `row`
// on of a tile, which are the warp's own.
template <int kDim, int kRows, int kTiles>
__device__ __forceinline__ void WriteRows(const WindowAttentionArgs& args, const Job& job, int first,
                                          const Rows<kDim, kTiles>& rows, int row, Half* shared) {
  constexpr int kChunks = kDim / kVector;
  const int lane = threadIdx.x % kWarp;
  __syncwarp();  // queries that lay there have been read
#pragma unroll
  for (int t = 0; t < kTiles; ++t) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float sum = rows.sum[t][half];
      sum += __shfl_xor_sync(~0u, sum, 1);
      sum += __shfl_xor_sync(~0u, sum, 2);
      const float factor = 1.0f / sum;
#pragma unroll
      for (int n = 0; n < kDim / 8; ++n) {
        const float(&out)[4] = rows.out[t][n];
        Half* place = shared + TilePlace<kDim, kRows>(row + t * 16 + half * 8 + lane / 4, n) + lane % 4 * 2;
        *reinterpret_cast<uint32_t*>(place) = NarrowPair(out[2 * half] * factor, out[2 * half + 1] * factor);
      }
    }
  }
  __syncwarp();
#pragma unroll 4
  for (int i = lane; i < 16 * kTiles * kChunks; i += kWarp) {
    const int r = i / kChunks, chunk = i % kChunks;
    if (first + r >= job.num_packed() || chunk * kVector >= args.head_dim) continue;
    const int64_t offset = QueryOffset(args, job, first + r, int64_t{args.heads} * args.head_dim);
    *reinterpret_cast<uint4*>(Halves(args.out) + offset + chunk * kVector) =
        *reinterpret_cast<const uint4*>(shared + TilePlace<kDim, kRows>(row + r, chunk));
  }
}

// The kernel for heads of 128 (attention_window_wgmma.cu), and whether this device has what it needs.
bool HasWarpgroupProducts(CudaStream& stream);
void LaunchWarpgroupChunks(const WindowAttentionArgs& args, SpanBatch batch, CudaStream& stream);

}  // namespace yoio::kernels::cuda::window

#endif  // YOIO_KERNELS_CUDA_ATTENTION_WINDOW_CHUNK_CUH_
