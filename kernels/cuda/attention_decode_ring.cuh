// A ring of stages in shared memory that cached keys and values are copied into well ahead of their use.
//
// A stage is several tiles of 16 tokens of one kv head; a tile is what one warp computes on at a time. Other
// warps copy. A token's key and value, 512 bytes, stand side by side as in the cache, and are one instruction
// of the copy engine. Issuing 16 of those takes a warp about as long as computing on a tile. There are 16
// bytes more from one token to the next, so that the eight rows that one ldmatrix reads start in eight
// different groups of four banks.
#ifndef YOIO_KERNELS_CUDA_ATTENTION_DECODE_RING_CUH_
#define YOIO_KERNELS_CUDA_ATTENTION_DECODE_RING_CUH_

#include <cuda_bf16.h>

#include <cstdint>

namespace yoio::kernels::cuda::decode {

inline constexpr int kHeadDim = 128;
inline constexpr int kTile = 16;  // tokens of a tile

// Where one token's key and value of a kv head lie.
struct TokenAddress {
  const __nv_bfloat16* key;
  const __nv_bfloat16* value;
};

// A tile in the ring, by its first key.
struct RingTile {
  static constexpr int kPitch = 2 * kHeadDim + 8;  // elements from token to token

  __device__ __forceinline__ const __nv_bfloat16* Key(int slab, int lane) const {
    return first + lane % 16 * kPitch + lane / 16 * 8 + slab * 16;
  }
  __device__ __forceinline__ const __nv_bfloat16* Value(int slab, int lane) const {
    return first + kHeadDim + (lane % 8 + lane / 16 * 8) * kPitch + lane / 8 % 2 * 8 + slab * 16;
  }

  const __nv_bfloat16* first;
};

// kTiles: of a stage, each for a computing warp.
template <int kStages, int kTiles>
class TileRing {
 public:
  static constexpr int kTokens = kTiles * kTile;  // of a stage
  static constexpr int kPitch = RingTile::kPitch;
  static constexpr int kStageSize = kTokens * kPitch;
  static constexpr size_t kBytes = size_t{kStages} * kStageSize * sizeof(__nv_bfloat16);

  // Every thread of the block; `tiles` holds kBytes, `barriers` 2 kStages. Synchronizes the block.
  __device__ TileRing(__nv_bfloat16* tiles, uint64_t* barriers)
      : tiles_(tiles), full_(Address(barriers)), empty_(full_ + kStages * 8) {
#if __CUDA_ARCH__ >= 900
    if (threadIdx.x == 0) {
      for (int stage = 0; stage < kStages; ++stage) {
        Initialize(full_ + stage * 8, kTokens);
        Initialize(empty_ + stage * 8, kTiles * 32);
      }
      asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    }
    __syncthreads();
#else
    __trap();  // no copy engine
#endif
  }

  __device__ RingTile Tile(int stage, int warp) const {
    return {tiles_ + stage * kStageSize + warp * kTile * kPitch};
  }

  // Starts copying 16 tokens, from token `first` of a stage on, once the stage is free; lane i < 16 knows
  // where token i lies. Called by as many warps as a stage has times 16 tokens.
  __device__ void Fill(int stage, int turn, int first, int lane, TokenAddress token) {
#if __CUDA_ARCH__ >= 900
    const uint32_t barrier = full_ + stage * 8;
    Wait(empty_ + stage * 8, turn ^ 1);
    if (lane >= kTile) return;
    __nv_bfloat16* target = tiles_ + stage * kStageSize + (first + lane) * kPitch;
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(4 * kHeadDim)
                 : "memory");
    if (token.value == token.key + kHeadDim) {
      Copy(target, token.key, 2 * kHeadDim, barrier);
    } else {
      Copy(target, token.key, kHeadDim, barrier);
      Copy(target + kHeadDim, token.value, kHeadDim, barrier);
    }
#endif
  }

  // Waits until a stage is full. `turn`: how often it was before, mod 2.
  __device__ void WaitFull(int stage, int turn) { Wait(full_ + stage * 8, turn); }

  // This thread has read what it needs of a stage. All threads of computing warps call it.
  __device__ void Release(int stage) {
#if __CUDA_ARCH__ >= 900
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(empty_ + stage * 8) : "memory");
#endif
  }

 private:
  __device__ static void Initialize(uint32_t barrier, int count) {
#if __CUDA_ARCH__ >= 900
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(count) : "memory");
#endif
  }

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
