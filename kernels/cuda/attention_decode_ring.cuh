// A ring of stages in shared memory that cached keys and values are copied into well ahead of their use.
//
// A stage is 64 tokens of one kv head, a tile of 16 for each of four warps that compute. Four more warps
// copy, a tile each: a token's key and value stand side by side as in the cache, 512 bytes, and are one
// instruction of the copy engine. Issuing 16 of those takes a warp about as long as computing on them, so it
// has warps of its own. There are 16 bytes more from one token to the next, so that the eight rows that one
// ldmatrix reads start in eight different groups of four banks.
#ifndef YOIO_KERNELS_CUDA_ATTENTION_DECODE_RING_CUH_
#define YOIO_KERNELS_CUDA_ATTENTION_DECODE_RING_CUH_

#include <cuda_bf16.h>

#include <cstdint>

#include "kernels/ops.h"

namespace yoio::kernels::cuda::decode {

inline constexpr int kHeadDim = 128;
inline constexpr int kWarps = 4;
inline constexpr int kThreads = kWarps * 32;  // of these warps; as many others copy
inline constexpr int kBlockThreads = 2 * kThreads;
inline constexpr int kTile = 16;                 // tokens of one warp in a step
inline constexpr int kStep = kWarps * kTile;     // tokens of one step, and of a stage
inline constexpr int kPitch = 2 * kHeadDim + 8;  // elements from token to token in a stage
static_assert(kStep == kBlockTokens);

// Where one token's key and value of one kv head lie.
struct TokenAddress {
  const __nv_bfloat16* key;
  const __nv_bfloat16* value;
};

template <int kStages>
class TileRing {
 public:
  static constexpr int kStageSize = kStep * kPitch;
  static constexpr size_t kBytes = size_t{kStages} * kStageSize * sizeof(__nv_bfloat16);

  // Every thread of the block; `tiles` holds kBytes, `barriers` 2 kStages. Synchronizes the block.
  __device__ TileRing(__nv_bfloat16* tiles, uint64_t* barriers)
      : tiles_(tiles), full_(Address(barriers)), empty_(full_ + kStages * 8) {
#if __CUDA_ARCH__ >= 900
    if (threadIdx.x == 0) {
      for (int i = 0; i < 2 * kStages; ++i) {
        asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(full_ + i * 8), "r"(kWarps) : "memory");
      }
      asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    }
    __syncthreads();
#else
    __trap();  // no copy engine
#endif
  }

  // The first key of a warp's tile.
  __device__ __nv_bfloat16* Tile(int stage, int warp) const {
    return tiles_ + stage * kStageSize + warp * kTile * kPitch;
  }

  // Starts copying tile `warp` of a stage, once the stage is free: lane i < valid knows where token i lies.
  // The values behind them become zeros, the keys are left as they are. All copying warps call it.
  __device__ void Fill(int stage, int warp, int lane, TokenAddress token, int valid, int turn) {
#if __CUDA_ARCH__ >= 900
    const uint32_t barrier = full_ + stage * 8;
    Wait(empty_ + stage * 8, turn ^ 1);
    __nv_bfloat16* target = Tile(stage, warp) + lane * kPitch;
    if (valid < kTile) {
      // Ordinary stores that a later copy overwrites: the fence keeps the two in order.
      if (lane >= valid && lane < kTile) {
        auto* value = reinterpret_cast<uint4*>(target + kHeadDim);
        for (int i = 0; i < kHeadDim / 8; ++i) value[i] = {0, 0, 0, 0};
      }
      asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
      __syncwarp();
    }
    if (lane == 0) {
      asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier),
                   "r"(valid * 4 * kHeadDim)
                   : "memory");
    }
    __syncwarp();
    if (lane < valid) {
      if (token.value == token.key + kHeadDim) {
        Copy(target, token.key, 2 * kHeadDim, barrier);
      } else {
        Copy(target, token.key, kHeadDim, barrier);
        Copy(target + kHeadDim, token.value, kHeadDim, barrier);
      }
    }
#endif
  }

  // Waits until a stage is full. `turn`: how often it was before, mod 2.
  __device__ void WaitFull(int stage, int turn) { Wait(full_ + stage * 8, turn); }

  // This warp has read what it needs of a stage. All computing warps call it.
  __device__ void Release(int stage, int lane) {
#if __CUDA_ARCH__ >= 900
    __syncwarp();
    if (lane == 0) {
      asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(empty_ + stage * 8) : "memory");
    }
#endif
  }

 private:
  __device__ static void Wait(uint32_t barrier, int parity) {
#if __CUDA_ARCH__ >= 900
    asm volatile(
        "{\n"
        ".reg .pred done;\n"
        "again:\n"
        "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
        "@!done bra again;\n"
        "}\n" ::"r"(barrier),
        "r"(parity)
        : "memory");
#endif
  }

  __device__ static uint32_t Address(const void* shared) {
    return static_cast<uint32_t>(__cvta_generic_to_shared(shared));
  }

  __device__ static void Copy(const __nv_bfloat16* target, const __nv_bfloat16* source, int count,
                              uint32_t barrier) {
#if __CUDA_ARCH__ >= 900
    asm volatile(
        "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(
            Address(target)),
        "l"(source), "r"(count * 2), "r"(barrier)
        : "memory");
#endif
  }

  __nv_bfloat16* tiles_;
  uint32_t full_, empty_;
};

}  // namespace yoio::kernels::cuda::decode

#endif  // YOIO_KERNELS_CUDA_ATTENTION_DECODE_RING_CUH_
