// One step of attention: 64 tokens of one kv head, taken from a ring that the copying warps keep full.
//
// Each of the four computing warps weighs one tile of 16 tokens and hands its weights to the others; then
// each sums 32 dimensions of all four tiles, in order. One barrier a step.
#ifndef YOIO_KERNELS_CUDA_ATTENTION_DECODE_STEP_CUH_
#define YOIO_KERNELS_CUDA_ATTENTION_DECODE_STEP_CUH_

#include "kernels/cuda/attention_decode_math.cuh"

namespace yoio::kernels::cuda::decode {

inline constexpr int kWarps = 4;              // that compute; as many others copy
inline constexpr int kThreads = kWarps * 32;  // of those that compute
inline constexpr int kBlockThreads = 2 * kThreads;
inline constexpr int kStep = kWarps * kTile;  // tokens
using StepSums = Sums<kHeadDim / kWarps / 16>;
template <int kStages>
using StepRing = TileRing<kStages, kWarps>;

// What the warps tell each other about a step; two, so that one is read while the other is written.
struct Exchange {
  uint2 p[2][kWarps][32];
  int2 maxima[2][kWarps][kMaxGroup / 2];
  float2 sums[2][kWarps][kMaxGroup / 2];
};

// A barrier among the computing warps.
__device__ __forceinline__ void SyncComputing() {
  asm volatile("bar.sync 1, %0;" ::"n"(kThreads) : "memory");
}

// What the copying warps do: Feeder::Fill(ring, stage, turn) copies a warp's tile of the block's next step,
// and Feeder::done() tells when there is none.
template <int kStages, class Feeder>
__device__ __forceinline__ void CopySteps(StepRing<kStages>& ring, Feeder& feeder) {
  for (int stage = 0, turn = 0; !feeder.done();) {
    feeder.Fill(ring, stage, turn);
    if (++stage == kStages) {
      stage = 0;
      turn ^= 1;
    }
  }
}

// What the computing warps do.
template <int kStages>
class Stepper {
 public:
  __device__ Stepper(StepRing<kStages>& ring, Exchange& exchange, float scale)
      : ring_(ring), exchange_(exchange), scale_(scale) {}

  // Adds the next step, of which the first `valid` tokens count.
  __device__ void Step(int valid, const Queries& queries, StepSums& sums) {
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    ring_.WaitFull(stage_, turn_);
    const Weights own = WeighTile(ring_.Tile(stage_, warp), valid - warp * kTile, scale_, lane, queries);
    exchange_.p[parity_][warp][lane] = {own.p[0], own.p[1]};
    if (lane < 4) {
      exchange_.maxima[parity_][warp][lane] = {own.maximum[0], own.maximum[1]};
      exchange_.sums[parity_][warp][lane] = {own.sum[0], own.sum[1]};
    }
    SyncComputing();
    AddTiles(warp, lane, sums);
    ring_.Release(stage_);
    parity_ ^= 1;
    if (++stage_ == kStages) {
      stage_ = 0;
      turn_ ^= 1;
    }
  }

 private:
  __device__ void AddTiles(int warp, int lane, StepSums& sums) {
    Weights weights[kWarps];
    int highest[2] = {sums.maximum[0], sums.maximum[1]};
#pragma unroll
    for (int w = 0; w < kWarps; ++w) {
      const uint2 p = exchange_.p[parity_][w][lane];
      const int2 maximum = exchange_.maxima[parity_][w][lane % 4];
      const float2 sum = exchange_.sums[parity_][w][lane % 4];
      weights[w] = {{p.x, p.y}, {maximum.x, maximum.y}, {sum.x, sum.y}};
      highest[0] = max(highest[0], maximum.x);
      highest[1] = max(highest[1], maximum.y);
    }
    sums.Rescale(highest[0], highest[1]);
#pragma unroll
    for (int w = 0; w < kWarps; ++w) {
      sums.AddTile(ring_.Tile(stage_, w), warp * (kHeadDim / kWarps / 16), lane, weights[w]);
    }
  }

  StepRing<kStages>& ring_;
  Exchange& exchange_;
  const float scale_;
  int stage_ = 0, turn_ = 0, parity_ = 0;
};

}  // namespace yoio::kernels::cuda::decode

#endif  // YOIO_KERNELS_CUDA_ATTENTION_DECODE_STEP_CUH_
