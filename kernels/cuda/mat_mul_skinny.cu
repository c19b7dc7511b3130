// Products of few rows: y [rows <= 64, n] = x [rows, k] W [n, k]^T, and the same for W = (gate, up) with
// silu(gate) * up written instead. Floor: n k bf16 of W read once; x, y and the arithmetic are small beside it.
//
// What it takes is that device memory never idles, within a product and from one to the next:
//   - A block is one producer warp and up to 8 consumer warps around a ring of shared memory, which the producer
//     keeps full: bulk copies of tiles of W [16 units, 64 columns] with the same columns of x beside them.
//   - The first tiles of W are asked for before WaitForPrevious: weights depend on nothing. Two blocks fit a
//     multiprocessor, so the ring is full by the time that the products before this one, and what stands
//     between them (a norm, say), are through with their sums and their ends.
//   - Where n alone has too few tiles to occupy the device, or a tile too few warps, k is divided into parts.
//
// A consumer warp owns 16 rows of W (the M side of the matrix instruction) and all tokens (the N side, 8 at a
// time), so up to 8 tokens waste nothing. It sums its part of k in order; the parts are then added in order,
// whether they were summed by warps of one block or by blocks of a cluster. How many parts there are follows
// from n and k alone (PlanSkinny), and so the bits of a row do not depend on the rows beside it. What does
// depend on their number is only who sums which part: with few tokens small tiles and no cluster are fastest;
// with many, larger tiles, which read x less often.
// For gate and up, the 16 rows are 8 of each, so both factors of an output end up in one thread.
#include <cuda_bf16.h>

#include <algorithm>

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/mat_mul_skinny.cuh"
#include "kernels/cuda/mat_mul_skinny.h"
#include "kernels/cuda/mma.cuh"

namespace yoio::kernels::cuda {
namespace {

constexpr int kMaxWarps = 8;  // that consume
constexpr int kMaxStages = 32;
constexpr int kPanel = 64;  // columns of a panel: 128 bytes, the width of a swizzled box
constexpr int kRowBytes = kPanel * 2;
constexpr int kUnitBytes = 16 * kRowBytes;              // of one panel of W
constexpr int kTokenBytes = 8 * kRowBytes;              // 8 tokens of one panel of x
constexpr int kFragmentBytes = 32 * 4 * sizeof(float);  // sums of 16 rows of W and 8 tokens

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

// A place in the ring, and the parity of the phase that its barriers are in.
struct Place {
  int stage = 0;
  uint32_t parity = 0;

  __device__ void Advance(int stages) {
    if (++stage < stages) return;
    stage = 0;
    parity ^= 1;
  }
};

// Shared memory: stages of W (a panel [16 units, 64] for each group) and x (likewise), then the parts' sums, then
// two barriers a stage: `full` when all its bytes have arrived, `empty` when all consumers are done with it.
template <int kTokenTiles>
struct Ring {
  __nv_bfloat16* data;
  uint32_t address;  // of data
  int w_bytes, stage_bytes;
  uint32_t sums, barriers;

  __device__ Ring(uint8_t* raw, const Shape& shape)
      : w_bytes(shape.units * kUnitBytes), stage_bytes((w_bytes + kTokenTiles * kTokenBytes) * shape.groups) {
    const uint32_t start = SharedAddress(raw);
    address = (start + 1023) & ~1023u;  // of which the swizzle is a function
    data = reinterpret_cast<__nv_bfloat16*>(raw + (address - start));
    sums = shape.stages * stage_bytes;
    barriers = address + sums +
               (shape.parts() > 1 ? shape.slots() * shape.parts() * kTokenTiles * kFragmentBytes : 0);
  }
  // Offsets in bytes.
  __device__ int W(int stage, int group) const { return stage * stage_bytes + group * w_bytes; }
  __device__ int X(int stage, int group, int groups) const {
    return stage * stage_bytes + groups * w_bytes + group * kTokenTiles * kTokenBytes;
  }
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

  // Panels of a row follow each other by a dimension of their own, so that one copy brings those of all groups.
  // With a last panel that is not whole there is one group, and columns are counted instead: what lies behind
  // the row is then outside and read as zero.
  __device__ void Copy(const CUtensorMap& map, int offset, int stage, int row, int step, uint64_t policy) const {
    const int panel = (step * shape.splits + rank) * shape.groups;
    const int from[4] = {shape.whole ? 0 : panel * kPanel, row, 0, shape.whole ? panel : 0};
    CopyBox(ring.address + offset, map, from, ring.Full(stage), policy);
  }
  __device__ void CopyW(int stage, int tile, int step) const {
    ArriveExpecting(ring.Full(stage), ring.stage_bytes);
    Copy(w, ring.W(stage, 0), stage, tile * tile_rows, step, once);
  }
  __device__ void CopyX(int stage, int step) const {
    Copy(x, ring.X(stage, 0, shape.groups), stage, 0, step, again);
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
    Place place;
    for (int i = ahead; i < total; ++i) {
      Wait(ring.Empty(place.stage), place.parity);
      CopyW(place.stage, tile(i), step(i));
      CopyX(place.stage, step(i));
      place.Advance(shape.stages);
    }
  }
};

// sums += W x^T over one panel. `w` and `x` point at the row of this lane's matrices, in its first 16 bytes.
template <int kTokenTiles>
__device__ __forceinline__ void MultiplyPanel(const __nv_bfloat16* w, const __nv_bfloat16* x, int lane,
                                              float (&sums)[kTokenTiles][4]) {
  const int swizzle = lane & 7;
  uint32_t a[4][4];
#pragma unroll
  for (int step = 0; step < 4; ++step) {
    LoadMatrices(w + ((step * 2 + (lane >> 4)) ^ swizzle) * 8, a[step]);
  }
#pragma unroll
  for (int half = 0; half < 2; ++half) {
#pragma unroll
    for (int tile = 0; tile < kTokenTiles; ++tile) {
      uint32_t b[4];
      LoadMatrices(x + tile * (kTokenBytes / 2) + ((half * 4 + (lane >> 3)) ^ swizzle) * 8, b);
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

// Grid: clusters of `splits` blocks, each with its tiles; one where k has parts. Block: a warp for each unit and
// group, and the producer.
template <int kTokenTiles, SkinnyOutput kOutput>
__global__ void __launch_bounds__(32 * (kMaxWarps + 1), 2)
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

  float sums[kTokenTiles][4] = {};
  const int unit = warp % shape.units, group = warp / shape.units;
  if (consumes) {
    WaitForPrevious();
    // Matrices 0 and 2 of four are the first 8 rows of the unit, 1 and 3 the other 8: for gate and up these
    // lie behind all gates of the tile.
    const int second = lane >> 3 & 1;
    const int w_row = (kGated ? (second * shape.units + unit) * 8 : unit * 16 + second * 8) + (lane & 7);
    Place place;
    for (int tile = first; tile < shape.tiles; tile += stride) {
      for (int step = 0; step < shape.steps; ++step) {
        Wait(ring.Full(place.stage), place.parity);
        MultiplyPanel(ring.At(ring.W(place.stage, group) + w_row * kRowBytes),
                      ring.At(ring.X(place.stage, group, shape.groups) + (lane & 7) * kRowBytes), lane, sums);
        __syncwarp();
        if (lane == 0) Arrive(ring.Empty(place.stage));
        place.Advance(shape.stages);
      }
      if (shape.parts() > 1) break;
#pragma unroll
      for (int t = 0; t < kTokenTiles; ++t) {
        Store<kOutput>(sums[t], int64_t{tile} * shape.units + unit, t * 8, shape, y, y_stride, lane);
#pragma unroll
        for (float& sum : sums[t]) sum = 0.0f;
      }
    }
  } else {
    if (lane == 0) {
      Producer<kTokenTiles>{ring, w_map, x_map, shape, rank, shape.units * (kGated ? 8 : 16)}.Run(first, stride);
    }
    __syncwarp();
  }
  if (shape.parts() == 1) return;

  // The sums of unit u go to rank u mod splits, which adds and writes them.
  if (shape.splits > 1) WaitForCluster();  // all blocks have begun
  if (consumes) {
#pragma unroll
    for (int t = 0; t < kTokenTiles; ++t) {
      const int place = ring.Sums(unit / shape.splits, rank * shape.groups + group, shape.parts(), t);
      StoreRemote(ring.address + place + lane * 16, unit % shape.splits, sums[t]);
    }
  }
  if (shape.splits > 1) {
    ArriveAtCluster();
    WaitForCluster();
  } else {
    __syncthreads();
  }
  for (int job = warp; job < shape.slots() * kTokenTiles; job += consumers + 1) {
    const int slot = job / kTokenTiles, t = job % kTokenTiles, own = slot * shape.splits + rank;
    if (own >= shape.units) break;
    float total[4] = {};
    for (int part = 0; part < shape.parts(); ++part) {
      const float4 v =
          reinterpret_cast<const float4*>(ring.At(ring.Sums(slot, part, shape.parts(), t)))[lane];
      total[0] += v.x, total[1] += v.y, total[2] += v.z, total[3] += v.w;
    }
    Store<kOutput>(total, int64_t{first} * shape.units + own, t * 8, shape, y, y_stride, lane);
  }
}

#else

template <int kTokenTiles, SkinnyOutput kOutput>
__global__ void Skinny(const __grid_constant__ CUtensorMap, const __grid_constant__ CUtensorMap, Shape, void*,
                       int64_t) {
  __trap();
}

#endif  // sm_90

using MapFunction = decltype(&cuTensorMapEncodeTiled);

// The driver is found at run time: nothing links against it.
MapFunction FindMapFunction() {
  void* function = nullptr;
  cudaDriverEntryPointQueryResult result;
  const cudaError_t error = cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000,
                                                             cudaEnableDefault, &result);
  if (error != cudaSuccess || result != cudaDriverEntryPointSuccess) return nullptr;
  return reinterpret_cast<MapFunction>(function);
}

// bf16 [parts][rows][columns], read in boxes [groups][parts][box_rows][64] as Producer::Copy does.
CUtensorMap Map(const void* data, int64_t parts, int64_t rows, int64_t columns, int64_t stride, int groups,
                int box_rows, CudaStream& stream) {
  static const MapFunction encode = FindMapFunction();
  CUtensorMap map{};
  const bool whole = columns % kPanel == 0;
  const auto size = [](int64_t value) { return static_cast<cuuint64_t>(value); };
  const cuuint64_t sizes[] = {size(whole ? kPanel : columns), size(rows), size(parts),
                              size(whole ? columns / kPanel : 1)};
  const cuuint64_t strides[] = {size(stride * 2), size(stride * rows * 2), kRowBytes};
  const cuuint32_t box[] = {kPanel, static_cast<cuuint32_t>(box_rows), static_cast<cuuint32_t>(parts),
                            static_cast<cuuint32_t>(groups)};
  const cuuint32_t steps[] = {1, 1, 1, 1};
  if (encode == nullptr ||
      encode(&map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 4, const_cast<void*>(data), sizes, strides, box, steps,
             CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
             CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) != CUDA_SUCCESS) {
    stream.Note(cudaErrorInvalidValue, "the tensor map of a skinny product");
  }
  return map;
}

template <int kTokenTiles, SkinnyOutput kOutput>
void Queue(const SkinnyPlan& plan, const SkinnyProduct& product, CudaStream& stream) {
  constexpr int kParts = kOutput == SkinnyOutput::kGated ? 2 : 1;
  const int tile_rows = plan.units * 16 / kParts;
  const int panels = plan.groups * plan.splits;
  Shape shape = {
      .outputs = product.outputs,
      .tokens = product.rows,
      .units = plan.units,
      .groups = plan.groups,
      .splits = plan.splits,
      .tiles = static_cast<int>((product.outputs + tile_rows - 1) / tile_rows),
      .steps = static_cast<int>((product.k + kPanel * panels - 1) / (kPanel * panels)),
      .stages = 0,
      .whole = product.k % kPanel == 0,
  };
  const int stage_bytes = (plan.units * kUnitBytes + kTokenTiles * kTokenBytes) * plan.groups;
  const int other_bytes = 1024 + 16 * kMaxStages +
                          (panels > 1 ? shape.slots() * panels * kTokenTiles * kFragmentBytes : 0);
  shape.stages = std::clamp((plan.block_bytes - other_bytes) / stage_bytes, 2, kMaxStages);
  const int clusters = panels > 1 ? shape.tiles : std::min(shape.tiles, stream.multiprocessors());
  Launch(stream, "MatMul", Skinny<kTokenTiles, kOutput>,
         {.grid = dim3(clusters * plan.splits),
          .block = dim3(32 * (plan.units * plan.groups + 1)),
          .shared_bytes = static_cast<size_t>(other_bytes + shape.stages * stage_bytes),
          .cluster = plan.splits},
         Map(product.w, kParts, product.outputs, product.k, product.k, plan.groups, tile_rows, stream),
         Map(product.x, 1, product.rows, product.k, product.x_stride, plan.groups, kTokenTiles * 8, stream), shape,
         product.y, product.y_stride);
}

template <SkinnyOutput kOutput>
void QueueFor(const SkinnyPlan& plan, const SkinnyProduct& product, CudaStream& stream) {
  if (product.rows <= 8) return Queue<1, kOutput>(plan, product, stream);
  if (product.rows <= 16) return Queue<2, kOutput>(plan, product, stream);
  if (product.rows <= 32) return Queue<4, kOutput>(plan, product, stream);
  return Queue<8, kOutput>(plan, product, stream);
}

}  // namespace

int g_max_parts = 8; int g_few_rows = 16;
SkinnyPlan PlanSkinny(int64_t units, int64_t k, int rows) {
  constexpr int kBlocks = 128;  // widths of models are multiples of it; a few multiprocessors more change nothing
  int parts = 1;
  while (parts < g_max_parts && units * parts * 2 <= kBlocks * kMaxWarps && k % (kPanel * parts * 2) == 0) parts *= 2;
  const bool few = parts > 1 && rows <= g_few_rows;
  const int splits = few ? 1 : parts;
  const int64_t passes = (units * splits + kBlocks * kMaxWarps - 1) / (kBlocks * kMaxWarps);
  const int64_t tiles = kBlocks * passes / splits;
  return {.units = static_cast<int>((units + tiles - 1) / tiles),
          .groups = few ? parts : 1,
          .splits = splits,
          .block_bytes = 112 << 10};
}

bool SkinnyRuns() {
  int device = 0, major = 0;
  cudaGetDevice(&device);
  cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
  return major >= 9;
}

void MultiplySkinny(const SkinnyPlan& plan, const SkinnyProduct& product, CudaStream& stream) {
  switch (product.output) {
    case SkinnyOutput::kBF16:
      return QueueFor<SkinnyOutput::kBF16>(plan, product, stream);
    case SkinnyOutput::kF32:
      return QueueFor<SkinnyOutput::kF32>(plan, product, stream);
    case SkinnyOutput::kGated:
      return QueueFor<SkinnyOutput::kGated>(plan, product, stream);
  }
}

void MultiplySkinny(const SkinnyProduct& product, CudaStream& stream) {
  if (product.rows == 0) return;
  const int64_t rows = product.output == SkinnyOutput::kGated ? 2 * product.outputs : product.outputs;
  MultiplySkinny(PlanSkinny((rows + 15) / 16, product.k, product.rows), product, stream);
}

}  // namespace yoio::kernels::cuda
