// WindowAttention: generated rows and rows that are a span of their own go to WindowDecode; spans of several
// rows, the chunks of prompts, to one of two kernels that differ in how they multiply:
// attention_window_wgmma.cu for heads of 128 on sm_90a, and the one here for everything else. Then keys and
// values of the chunks go to the ring.
//
// Floor: 4 * window * head_dim FLOPs a row and head: 43 GFLOP for 8192 rows, window 512, 20 heads x 128, so
// 72 us at 600 TFLOP/s. K and V are read once a block, from L2.
//
// Here a warp holds 32 rows, so that a fragment of keys read from shared memory serves two products; four
// warps are a block, two blocks a multiprocessor, and one multiplies while the other waits. The bits of a
// chunk's row do not depend on how its prompt is cut (attention_window_chunk.cuh), down to chunks of two
// rows: WindowDecode sums in another order.
#include <algorithm>

#include "base/check.h"
#include "kernels/cuda/attention_window.h"
#include "kernels/cuda/attention_window_chunk.cuh"
#include "kernels/cuda/cuda_ops.h"

namespace yoio::kernels::cuda {
namespace {

using namespace window;

constexpr int kWarps = 4;
constexpr int kThreads = kWarps * kWarp;

template <int kDim>
struct Shape {
  static constexpr int kTiles = kDim <= 128 ? 2 : 1;  // of 16 rows, of a warp
  static constexpr int kWarpRows = 16 * kTiles;
  static constexpr int kRows = kWarps * kWarpRows;
  static constexpr int kBlocks = kDim <= 128 ? 2 : 1;  // on one multiprocessor
};

template <int kDim>
struct Shared {
  Half q[Shape<kDim>::kRows * kDim];  // the outputs, in the end
  Half k[2][kKeys * kDim];
  Half v[2][kKeys * kDim];
};

// Scores of the warp's rows, which begin at `row` of q.
template <int kDim>
__device__ __forceinline__ void ScoreTile(const Half* q, int row, const Half* k,
                                          Scores<Shape<kDim>::kTiles>& scores) {
  constexpr int kTiles = Shape<kDim>::kTiles, kRows = Shape<kDim>::kRows;
  const int lane = threadIdx.x % kWarp;
#pragma unroll
  for (int step = 0; step < kDim / 16; ++step) {
    uint32_t a[kTiles][4];
#pragma unroll
    for (int t = 0; t < kTiles; ++t) {
      LoadMatrices(q + TilePlace<kDim, kRows>(row + t * 16 + lane % 16, step * 2 + lane / 16), a[t]);
    }
#pragma unroll
    for (int n = 0; n < kKeys / 16; ++n) {
      uint32_t b[4];
      LoadMatrices(k + TilePlace<kDim, kKeys>(n * 16 + lane / 16 * 8 + lane % 8, step * 2 + lane / 8 % 2), b);
#pragma unroll
      for (int t = 0; t < kTiles; ++t) {
        MultiplyAdd(a[t], b[0], b[1], scores[t][2 * n]);
        MultiplyAdd(a[t], b[2], b[3], scores[t][2 * n + 1]);
      }
    }
  }
}

template <int kDim>
__device__ __forceinline__ void AddValues(const Scores<Shape<kDim>::kTiles>& weights, const Half* v,
                                          Rows<kDim, Shape<kDim>::kTiles>& rows) {
  constexpr int kTiles = Shape<kDim>::kTiles;
  const int lane = threadIdx.x % kWarp;
#pragma unroll
  for (int step = 0; step < kKeys / 16; ++step) {
    uint32_t a[kTiles][4];
#pragma unroll
    for (int t = 0; t < kTiles; ++t) NarrowWeights(weights[t], step, a[t]);
#pragma unroll
    for (int n = 0; n < kDim / 16; ++n) {
      uint32_t b[4];
      LoadMatricesTransposed(v + TilePlace<kDim, kKeys>(step * 16 + lane % 16, n * 2 + lane / 16), b);
#pragma unroll
      for (int t = 0; t < kTiles; ++t) {
        MultiplyAdd(a[t], b[0], b[1], rows.out[t][2 * n]);
        MultiplyAdd(a[t], b[2], b[3], rows.out[t][2 * n + 1]);
      }
    }
  }
}

template <int kDim>
__global__ void __launch_bounds__(kThreads, Shape<kDim>::kBlocks)
    ChunkAttention(WindowAttentionArgs args, const __grid_constant__ SpanBatch batch) {
  using S = Shape<kDim>;
  extern __shared__ uint4 memory[];
  Shared<kDim>& shared = *reinterpret_cast<Shared<kDim>*>(memory);
  AllowNext();
  const Job job = FindJob(args, batch, blockIdx.x, blockIdx.y, S::kRows);
  const int row = threadIdx.x / kWarp * S::kWarpRows;  // the warp's first
  const float scale = ScoreScale(args.head_dim);
  Rows<kDim, S::kTiles> rows;
  StartRows(job, job.first + row, rows);
  WaitForPrevious();
  CopyQueries<kDim, S::kRows, kThreads>(args, job, threadIdx.x, shared.q);
  CopyKeys<kDim, kThreads>(args, job, job.first_tile, threadIdx.x, shared.k[0], shared.v[0]);
  for (int tile = job.first_tile; tile <= job.last_tile; ++tile) {
    const int stage = (tile - job.first_tile) % 2;
    WaitForCopies();
    __syncthreads();  // this tile has come, and nobody reads the one before
    if (tile < job.last_tile) {
      CopyKeys<kDim, kThreads>(args, job, tile + 1, threadIdx.x, shared.k[1 - stage], shared.v[1 - stage]);
    }
    const bool seen =
        tile * kKeys <= rows.last_position && tile * kKeys + kKeys - 1 > rows.first_position - args.window;
    if (!seen) continue;
    Scores<S::kTiles> scores = {};
    ScoreTile<kDim>(shared.q, row, shared.k[stage], scores);
    MaskTile(rows, tile, args.window, scores);
    float factor[S::kTiles][2];
    WeighTile(scale, rows, scores, factor);
    RescaleRows(factor, rows);
    AddValues<kDim>(scores, shared.v[stage], rows);
  }
  WriteRows<kDim, S::kRows>(args, job, job.first + row, rows, row, shared.q);
}

template <int kDim>
void LaunchChunks(const WindowAttentionArgs& args, SpanBatch batch, CudaStream& stream) {
  batch.Cut(args.heads / args.kv_heads, Shape<kDim>::kRows);
  const dim3 grid(batch.num_tiles, args.kv_heads);
  Launch(stream, "WindowAttention", ChunkAttention<kDim>, {grid, kThreads, sizeof(Shared<kDim>)}, args,
         batch);
}

// Spans of several rows; then their keys and values go to the ring.
void AttendChunks(const WindowAttentionArgs& args, int first_span, int num_spans, CudaStream& stream) {
  YOIO_CHECK_EQ(args.head_dim % kVector, 0);
  YOIO_CHECK_LE(args.head_dim, 256);
  const auto launch = args.head_dim <= 16                                    ? LaunchChunks<16>
                      : args.head_dim <= 32                                  ? LaunchChunks<32>
                      : args.head_dim <= 64                                  ? LaunchChunks<64>
                      : args.head_dim == 128 && HasWarpgroupProducts(stream) ? LaunchWarpgroupChunks
                      : args.head_dim <= 128                                 ? LaunchChunks<128>
                                                                             : LaunchChunks<256>;
  const SequenceSpan* spans = args.spans + first_span;
  for (int begin = 0; begin < num_spans; begin += SpanBatch::kMaxSpans) {
    SpanBatch batch;
    batch.num_spans = std::min(SpanBatch::kMaxSpans, num_spans - begin);
    std::copy_n(spans + begin, batch.num_spans, batch.spans);
    launch(args, batch, stream);
  }
  const SequenceSpan& last = spans[num_spans - 1];
  const int64_t first_row = spans[0].row_begin;
  WriteKv({.k = reinterpret_cast<const Activation*>(Halves(args.k) + first_row * args.row_stride),
           .v = reinterpret_cast<const Activation*>(Halves(args.v) + first_row * args.row_stride),
           .row_stride = args.row_stride,
           .slots = args.ring_slots + first_row,
           .num_rows = static_cast<int>(last.row_begin + last.row_count - first_row),
           .kv_heads = args.kv_heads,
           .head_dim = args.head_dim,
           .cache = args.ring},
          stream);
}

}  // namespace

void WindowAttention(const WindowAttentionArgs& args, CudaStream& stream) {
  if (args.spans == nullptr) {
    WindowDecode(args, 0, args.num_rows, 1, stream);
    return;
  }
  const SequenceSpan *spans = args.spans, *spans_end = spans + args.num_spans;
  const auto is_single = [](const SequenceSpan& span) { return span.row_count == 1; };
  const auto is_chunk = [](const SequenceSpan& span) { return span.row_count > 1; };
  const SequenceSpan* generated = std::partition_point(
      spans, spans_end, [&](const SequenceSpan& span) { return span.row_begin < args.num_prompt_rows; });
  while (spans != generated) {
    const bool single = is_single(*spans);
    const SequenceSpan* end =
        single ? std::find_if(spans, generated, is_chunk) : std::find_if(spans, generated, is_single);
    if (single) {
      WindowDecode(args, spans->row_begin, static_cast<int>(end - spans), 1, stream);
    } else {
      AttendChunks(args, static_cast<int>(spans - args.spans), static_cast<int>(end - spans), stream);
    }
    spans = end;
  }
  if (generated == spans_end) return;
  int most_rows = 0;
  for (const SequenceSpan* span = generated; span != spans_end; ++span) {
    most_rows = std::max(most_rows, span->row_count);
  }
  WindowDecode(args, generated->row_begin, args.num_rows - generated->row_begin, most_rows, stream);
}

}  // namespace yoio::kernels::cuda
