// Products of few rows: y [rows <= 64, n] = x [rows, k] W [n, k]^T, and the same for W = (gate, up) with
// silu(gate) * up written instead. Floor: n k bf16 of W read once; x, y and the arithmetic are small beside.
//
// What it takes is that device memory never idles, within a product and from one to the next:
//   - A block is one producer warp and up to 8 consumer warps around a ring of shared memory. The producer
//     keeps it full: bulk copies of tiles of W [16 units, 64 columns a group] and the same columns of x.
//   - A block asks for its first tiles of W before WaitForPrevious: weights depend on nothing. Blocks are so
//     large that a multiprocessor holds one. Where this product's block ends early, the next product's block
//     takes its place and fills its ring while others still finish; and every multiprocessor has one block of
//     each. (Smaller blocks, two products side by side, came out slower by up to a tenth.)
//   - Where n alone has too few tiles to occupy the device, or a tile too few warps, k is divided into parts.
//
// A consumer warp owns 16 rows of W (the M side of the matrix instruction) and all tokens (the N side, 8 at a
// time), so up to 8 tokens waste nothing. It sums its part of k in order; the parts are then added in order,
// whether they were summed by warps of one block or by blocks of a cluster. How many parts there are follows
// from n and k alone (PlanSkinny), and so the bits of a row do not depend on the rows beside it. What does
// depend on their number is only who sums which part: with few tokens small tiles and no cluster are fastest;
// with many, larger tiles, which read x less often. Two parts serve both; more of them would gain 3% with few
// tokens on narrow models and cost more with many.
// For gate and up, the 16 rows are 8 of each, so both factors of an output end up in one thread.
#include <cuda_bf16.h>

#include <algorithm>

#include "kernels/cuda/bulk_copy.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/mat_mul_skinny.h"
#include "kernels/cuda/mma.cuh"
#include "kernels/cuda/tensor_map.h"

namespace yoio::kernels::cuda {
namespace {

constexpr int kMaxWarps = 8;  // that consume
constexpr int kMaxStages = 32;
constexpr int kBlockBytes = 160 << 10;  // of shared memory: one block a multiprocessor
constexpr int kFewRows = 16;            // up to which tiles are small
constexpr int kPanel = 64;              // columns of a panel: 128 bytes, the width of a swizzled box
constexpr int kRowBytes = kPanel * 2;
constexpr int kUnitBytes = 16 * kRowBytes;              // of one panel of W
constexpr int kTokenBytes = 8 * kRowBytes;              // 8 tokens of one panel of x
constexpr int kFragmentBytes = 32 * 4 * sizeof(float);  // sums of 16 rows of W and 8 tokens

// How one product is cut.
struct Plan {
  int units;   // groups of 16 rows of W in a tile
  int groups;  // parts of k within a block, which has a warp for each unit and part
  int splits;  // parts of k among the blocks of a cluster
};

struct Shape {
  int64_t outputs;
  int tokens;
  int units;   // in a tile
  int groups;  // parts of k in a block
  int splits;  // blocks in a cluster
  int tiles;
  int steps;  // of groups * splits panels
  int stages;
  bool whole;  // k is a multiple of kPanel

  __host__ __device__ int parts() const { return groups * splits; }
  // Units of a tile that one block of the cluster finishes.
  __host__ __device__ int slots() const { return (units + splits - 1) / splits; }
};

#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900

// Shared memory: stages of W (a panel [16 units, 64] for each group) and x ([tokens, 64] for each), then the
// parts' sums, then two barriers a stage: `full` when all its bytes have arrived, `empty` when all consumers
// are done with it. Rows of x that are not there are not copied either (zeros from outside of a tensor are
// slow): what a fragment holds in their place goes into sums that nobody reads.
template <int kTokenTiles>
struct Ring {
  __nv_bfloat16* data;
  uint32_t address;  // of data
  int w_bytes, stage_bytes, copied_bytes;
  uint32_t sums, barriers;

  __device__ Ring(uint8_t* raw, const Shape& shape)
      : w_bytes(shape.units * kUnitBytes),
        stage_bytes((w_bytes + kTokenTiles * kTokenBytes) * shape.groups),
        copied_bytes((w_bytes + shape.tokens * kRowBytes) * shape.groups) {
    const uint32_t start = SharedAddress(raw);
    address = (start + 1023) & ~1023u;  // of which the swizzle is a function
    data = reinterpret_cast<__nv_bfloat16*>(raw + (address - start));
    sums = shape.stages * stage_bytes;
    barriers = address + sums +
               (shape.parts() > 1 ? shape.slots() * shape.parts() * kTokenTiles * kFragmentBytes : 0);
  }
  // Offsets in bytes.
  __device__ int W(int stage, int group) const { return stage * stage_bytes + group * w_bytes; }
  __device__ int X(int stage, int groups) const { return stage * stage_bytes + groups * w_bytes; }
  __device__ int Sums(int slot, int part, int parts, int token_tile) const {
    return sums + ((slot * parts + part) * kTokenTiles + token_tile) * kFragmentBytes;
  }
  __device__ const __nv_bfloat16* At(int offset) const { return data + offset / 2; }
  __device__ uint32_t Full(int stage) const { return barriers + stage * 16; }
  __device__ uint32_t Empty(int stage) const { return barriers + stage * 16 + 8; }
};

// What one thread of a block does for all others: asks for what the ring holds next.
template <int kTokenTiles>
struct Producer {
  const Ring<kTokenTiles>& ring;
  const CUtensorMap& w;
  const CUtensorMap& x;
  const Shape& shape;
  int rank;
  int tile_rows;  // outputs of a tile
  uint64_t once = EvictFirst(), again = EvictNormal();

  // Panels of a row follow each other by a dimension of their own, so that one copy brings those of all
  // groups. With a last panel that is not whole there is one group, and columns are counted instead: what
  // lies behind the row is then outside and read as zero.
  __device__ void Copy(const CUtensorMap& map, int offset, int stage, int row, int step,
                       uint64_t policy) const {
    const int panel = (step * shape.splits + rank) * shape.groups;
    const int from[4] = {shape.whole ? 0 : panel * kPanel, row, 0, shape.whole ? panel : 0};
    CopyBox(ring.address + offset, map, from, ring.Full(stage), policy);
  }
  __device__ void CopyW(int stage, int tile, int step) const {
    ArriveExpecting(ring.Full(stage), ring.copied_bytes);
    Copy(w, ring.W(stage, 0), stage, tile * tile_rows, step, once);
  }
  __device__ void CopyX(int stage, int step) const {
    Copy(x, ring.X(stage, shape.groups), stage, 0, step, again);
  }

  // Tiles first, first + stride, ...
  __device__ void Run(int first, int stride) const {
    PrefetchMap(x);
    const int total = (shape.tiles - first + stride - 1) / stride * shape.steps;
    const int ahead = min(total, shape.stages);
    const auto tile = [&](int i) { return first + i / shape.steps * stride; };
    const auto step = [&](int i) { return i % shape.steps; };
    for (int i = 0; i < ahead; ++i) CopyW(i, tile(i), step(i));
    WaitForPrevious();
    for (int i = 0; i < ahead; ++i) CopyX(i, step(i));
    RingPlace place;
    for (int i = ahead; i < total; ++i) {
      Wait(ring.Empty(place.stage), place.parity);
      CopyW(place.stage, tile(i), step(i));
      CopyX(place.stage, step(i));
      place.Advance(shape.stages);
    }
  }
};

// sums += W x^T over one panel. `w` and `x` point at the row of this lane's matrices, at its first 16 bytes;
// the place of the others depends on the row's number in the stage, modulo 8: that of x is `x_swizzle`.
template <int kTokenTiles>
__device__ __forceinline__ void MultiplyPanel(const __nv_bfloat16* w, const __nv_bfloat16* x, int x_swizzle,
                                              int lane, float (&sums)[kTokenTiles][4]) {
  uint32_t a[4][4];
#pragma unroll
  for (int step = 0; step < 4; ++step) {
    LoadMatrices(w + ((step * 2 + (lane >> 4)) ^ (lane & 7)) * 8, a[step]);
  }
#pragma unroll
  for (int half = 0; half < 2; ++half) {
#pragma unroll
    for (int tile = 0; tile < kTokenTiles; ++tile) {
      uint32_t b[4];
      LoadMatrices(x + tile * (kTokenBytes / 2) + ((half * 4 + (lane >> 3)) ^ x_swizzle) * 8, b);
      MultiplyAdd(a[half * 2], b[0], b[1], sums[tile]);
      MultiplyAdd(a[half * 2 + 1], b[2], b[3], sums[tile]);
    }
  }
}

__device__ __forceinline__ float Silu(float v) { return v / (1.0f + __expf(-v)); }

// Writes what a warp summed: unit `unit` of all (16 outputs, or 8 gated ones), 8 tokens from `token`.
template <SkinnyOutput kOutput>
__device__ __forceinline__ void Store(const float (&sums)[4], int64_t unit, int token, const Shape& shape,
                                      void* y, int64_t y_stride, int lane) {
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int row = token + (lane & 3) * 2 + i;
    if (row >= shape.tokens) continue;
    if constexpr (kOutput == SkinnyOutput::kGated) {
      const int64_t column = unit * 8 + (lane >> 2);
      if (column >= shape.outputs) continue;
      static_cast<__nv_bfloat16*>(y)[row * y_stride + column] = __float2bfloat16(Silu(sums[i]) * sums[i + 2]);
    } else {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int64_t column = unit * 16 + half * 8 + (lane >> 2);
        if (column >= shape.outputs) continue;
        if constexpr (kOutput == SkinnyOutput::kF32) {
          static_cast<float*>(y)[row * y_stride + column] = sums[half * 2 + i];
        } else {
          static_cast<__nv_bfloat16*>(y)[row * y_stride + column] = __float2bfloat16(sums[half * 2 + i]);
        }
      }
    }
  }
}

// A consumer warp and what it sums: one unit of a tile over one group's share of k.
template <int kTokenTiles>
struct Consumer {
  const Ring<kTokenTiles>& ring;
  const Shape& shape;
  int unit, group, lane;

  // sums += W x^T over the whole share. Matrices 0 and 2 of four are the first 8 rows of the unit, 1 and 3
  // the other 8: for gate and up these lie behind all gates of the tile.
  template <bool kGated>
  __device__ __forceinline__ void Sum(RingPlace& place, float (&sums)[kTokenTiles][4]) const {
    const int second = lane >> 3 & 1;
    const int w_row = (kGated ? (second * shape.units + unit) * 8 : unit * 16 + second * 8) + (lane & 7);
    const int x_row = group * shape.tokens + (lane & 7);
    for (int step = 0; step < shape.steps; ++step) {
      Wait(ring.Full(place.stage), place.parity);
      MultiplyPanel(ring.At(ring.W(place.stage, group) + w_row * kRowBytes),
                    ring.At(ring.X(place.stage, shape.groups) + x_row * kRowBytes), x_row & 7, lane, sums);
      __syncwarp();
      if (lane == 0) Arrive(ring.Empty(place.stage));
      place.Advance(shape.stages);
    }
  }

  // Sends the sums to the block that finishes this unit: rank unit mod splits.
  __device__ __forceinline__ void Send(int rank, const float (&sums)[kTokenTiles][4]) const {
#pragma unroll
    for (int t = 0; t < kTokenTiles; ++t) {
      const int offset = ring.Sums(unit / shape.splits, rank * shape.groups + group, shape.parts(), t);
      StoreRemote(ring.address + offset + lane * 16, unit % shape.splits, sums[t]);
    }
  }
};

// Adds the parts of this block's units of a tile, in order, and writes them. All warps.
template <int kTokenTiles, SkinnyOutput kOutput>
__device__ void AddParts(const Ring<kTokenTiles>& ring, const Shape& shape, int rank, int tile, void* y,
                         int64_t y_stride) {
  const int lane = threadIdx.x % 32, warps = blockDim.x / 32;
  for (int job = threadIdx.x / 32; job < shape.slots() * kTokenTiles; job += warps) {
    const int slot = job / kTokenTiles, t = job % kTokenTiles, unit = slot * shape.splits + rank;
    if (unit >= shape.units) break;
    float total[4] = {};
    for (int part = 0; part < shape.parts(); ++part) {
      const float4 v =
          reinterpret_cast<const float4*>(ring.At(ring.Sums(slot, part, shape.parts(), t)))[lane];
      total[0] += v.x, total[1] += v.y, total[2] += v.z, total[3] += v.w;
    }
    Store<kOutput>(total, int64_t{tile} * shape.units + unit, t * 8, shape, y, y_stride, lane);
  }
}

// Grid: clusters of `splits` blocks, each with its tiles; one where k has parts. Block: a warp for each unit
// and group, and the producer.
template <int kTokenTiles, SkinnyOutput kOutput>
__global__ void __launch_bounds__(32 * (kMaxWarps + 1), 1)
    Skinny(const __grid_constant__ CUtensorMap w_map, const __grid_constant__ CUtensorMap x_map, Shape shape,
           void* y, int64_t y_stride) {
  AllowNext();
  extern __shared__ uint8_t raw[];
  constexpr bool kGated = kOutput == SkinnyOutput::kGated;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int consumers = shape.units * shape.groups;
  const bool consumes = warp < consumers;
  const int rank = shape.splits > 1 ? ClusterRank() : 0;
  const int first = blockIdx.x / shape.splits, stride = gridDim.x / shape.splits;
  const Ring<kTokenTiles> ring(raw, shape);
  if (warp == consumers && lane == 0) {
    for (int stage = 0; stage < shape.stages; ++stage) {
      InitBarrier(ring.Full(stage), 1);
      InitBarrier(ring.Empty(stage), consumers);
    }
    PublishBarriers();
  }
  __syncthreads();
  if (shape.splits > 1) ArriveAtCluster();

  const Consumer<kTokenTiles> consumer{ring, shape, warp % shape.units, warp / shape.units, lane};
  float sums[kTokenTiles][4] = {};
  if (consumes) {
    WaitForPrevious();
    RingPlace place;
    for (int tile = first; tile < shape.tiles; tile += stride) {
      consumer.template Sum<kGated>(place, sums);
      if (shape.parts() > 1) break;
#pragma unroll
      for (int t = 0; t < kTokenTiles; ++t) {
        Store<kOutput>(sums[t], int64_t{tile} * shape.units + warp, t * 8, shape, y, y_stride, lane);
#pragma unroll
        for (float& sum : sums[t]) sum = 0.0f;
      }
    }
  } else {
    const Producer<kTokenTiles> producer{ring, w_map, x_map, shape, rank, shape.units * (kGated ? 8 : 16)};
    if (lane == 0) producer.Run(first, stride);
    __syncwarp();
  }
  if (shape.parts() == 1) return;

  if (shape.splits > 1) WaitForCluster();  // all blocks have begun: their memory can be written
  if (consumes) consumer.Send(rank, sums);
  if (shape.splits > 1) {
    ArriveAtCluster();
    WaitForCluster();
  } else {
    __syncthreads();
  }
  WaitForPrevious();  // for the producer's other threads, which have not
  AddParts<kTokenTiles, kOutput>(ring, shape, rank, first, y, y_stride);
}

#else

template <int kTokenTiles, SkinnyOutput kOutput>
__global__ void Skinny(const __grid_constant__ CUtensorMap, const __grid_constant__ CUtensorMap, Shape, void*,
                       int64_t) {
  __trap();
}

#endif  // sm_90

// bf16 [parts][rows][columns], read in boxes [groups][parts][box_rows][64] as Producer::Copy does.
CUtensorMap Map(const void* data, int64_t parts, int64_t rows, int64_t columns, int64_t stride, int groups,
                int box_rows, CudaStream& stream) {
  const bool whole = columns % kPanel == 0;
  return MapBoxes({.data = data,
                   .sizes = {whole ? kPanel : columns, rows, parts, whole ? columns / kPanel : 1},
                   .strides = {stride * 2, stride * rows * 2, kRowBytes},
                   .box = {kPanel, box_rows, parts, groups}},
                  stream);
}

template <int kTokenTiles, SkinnyOutput kOutput>
void Queue(const Plan& plan, const SkinnyProduct& product, CudaStream& stream) {
  constexpr int kParts = kOutput == SkinnyOutput::kGated ? 2 : 1;
  const int tile_rows = plan.units * 16 / kParts;
  Shape shape = {
      .outputs = product.outputs,
      .tokens = product.rows,
      .units = plan.units,
      .groups = plan.groups,
      .splits = plan.splits,
      .tiles = static_cast<int>((product.outputs + tile_rows - 1) / tile_rows),
      .steps = 0,
      .stages = 0,
      .whole = product.k % kPanel == 0,
  };
  const int parts = shape.parts();
  shape.steps = static_cast<int>((product.k + kPanel * parts - 1) / (kPanel * parts));
  const int stage_bytes = (plan.units * kUnitBytes + kTokenTiles * kTokenBytes) * plan.groups;
  const int other_bytes =
      1024 + 16 * kMaxStages + (parts > 1 ? shape.slots() * parts * kTokenTiles * kFragmentBytes : 0);
  shape.stages = std::clamp((kBlockBytes - other_bytes) / stage_bytes, 2, kMaxStages);
  const int clusters = parts > 1 ? shape.tiles : std::min(shape.tiles, stream.multiprocessors());
  Launch(stream, "MatMul", Skinny<kTokenTiles, kOutput>,
         {.grid = dim3(clusters * plan.splits),
          .block = dim3(32 * (plan.units * plan.groups + 1)),
          .shared_bytes = static_cast<size_t>(other_bytes + shape.stages * stage_bytes),
          .cluster = plan.splits},
         Map(product.w, kParts, product.outputs, product.k, product.k, plan.groups, tile_rows, stream),
         Map(product.x, 1, product.rows, product.k, product.x_stride, plan.groups, product.rows, stream),
         shape, product.y, product.y_stride);
}

template <SkinnyOutput kOutput>
void QueueFor(const Plan& plan, const SkinnyProduct& product, CudaStream& stream) {
  if (product.rows <= 8) return Queue<1, kOutput>(plan, product, stream);
  if (product.rows <= 16) return Queue<2, kOutput>(plan, product, stream);
  if (product.rows <= 32) return Queue<4, kOutput>(plan, product, stream);
  return Queue<8, kOutput>(plan, product, stream);
}

// `units`: groups of 16 rows of W in all. The number of parts depends on `units` and k alone.
Plan PlanSkinny(int64_t units, int64_t k, int rows) {
  constexpr int kBlocks = 128;  // widths of models are multiples of it; all but fill an H100
  const int max_parts = units > kBlocks ? 2 : kMaxWarps;
  int parts = 1;
  while (parts < max_parts && units * parts * 2 <= kBlocks * kMaxWarps && k % (kPanel * parts * 2) == 0) {
    parts *= 2;
  }
  const bool in_block = parts > 1 && rows <= kFewRows;
  const int splits = in_block ? 1 : parts;
  const int64_t passes = (units * splits + kBlocks * kMaxWarps - 1) / (kBlocks * kMaxWarps);
  const int64_t tiles = kBlocks * passes / splits;
  return {.units = static_cast<int>((units + tiles - 1) / tiles),
          .groups = in_block ? parts : 1,
          .splits = splits};
}

}  // namespace

bool SkinnyRuns() {
  int device = 0, major = 0;
  cudaGetDevice(&device);
  cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
  return major >= 9;
}

void MultiplySkinny(const SkinnyProduct& product, CudaStream& stream) {
  if (product.rows == 0) return;
  const int64_t w_rows = product.output == SkinnyOutput::kGated ? 2 * product.outputs : product.outputs;
  const Plan plan = PlanSkinny((w_rows + 15) / 16, product.k, product.rows);
  switch (product.output) {
    case SkinnyOutput::kBF16:
      return QueueFor<SkinnyOutput::kBF16>(plan, product, stream);
    case SkinnyOutput::kF32:
      return QueueFor<SkinnyOutput::kF32>(plan, product, stream);
    case SkinnyOutput::kGated:
      return QueueFor<SkinnyOutput::kGated>(plan, product, stream);
  }
}

}  // namespace yoio::kernels::cuda
