// A cluster of blocks that shares one row: each block holds a slice of it in its own shared memory, and what
// the blocks reduce together all of them learn.
#ifndef YOIO_KERNELS_CUDA_ROW_CLUSTER_CUH_
#define YOIO_KERNELS_CUDA_ROW_CLUSTER_CUH_

#include <cuda_runtime.h>

#include <bit>
#include <cstdint>

namespace yoio::kernels::cuda {

inline constexpr int kClusterBlocks = 8;     // the most that every device grants
inline constexpr int kClusterThreads = 256;  // of one block
inline constexpr int kClusterWarps = kClusterThreads / 32;

// The place of this block in its cluster. Devices before sm_90 have no clusters.
__device__ __forceinline__ int ClusterRank() {
  int rank = 0;
#if __CUDA_ARCH__ >= 900
  asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
#else
  __trap();
#endif
  return rank;
}

// Of all threads of the cluster; what they wrote before it they see of each other behind it.
__device__ __forceinline__ void ClusterBarrier() {
#if __CUDA_ARCH__ >= 900
  asm volatile(
      "barrier.cluster.arrive.release.aligned;\n"
      "barrier.cluster.wait.acquire.aligned;" ::
          : "memory");
#endif
}

// The address of the same variable in shared memory of another block of the cluster.
template <typename T>
__device__ __forceinline__ T* AtRank(T* shared, int rank) {
#if __CUDA_ARCH__ >= 900
  T* remote;
  asm("mapa.u64 %0, %1, %2;" : "=l"(remote) : "l"(shared), "r"(rank));
  return remote;
#else
  return shared;
#endif
}

// Joins the values of a warp, in an order that is the same for every lane up to commutation.
template <typename T>
__device__ T WarpJoin(T value) {
  struct Words {
    uint32_t word[sizeof(T) / 4];
  };
  for (int distance = 16; distance > 0; distance /= 2) {
    Words words = std::bit_cast<Words>(value);
    for (uint32_t& word : words.word) word = __shfl_xor_sync(~0u, word, distance);
    value = value.Join(std::bit_cast<T>(words));
  }
  return value;
}

// Reductions over the cluster or over one block of it: every warp hands its value to all that take part.
// Values are of a type T of 16 bytes whose T Join(T) is associative and commutative to the bit.
//
// Between blocks, values are stored straight into the slots of the reader, and each store reports its bytes
// to a barrier there: no fence, and one trip. There are two sets of slots, used in turn. Whoever writes one
// of them again has seen the values of the other set, which readers of the first hand out when they have
// read.
class ClusterJoin {
 public:
  struct alignas(16) Slot {
    uint32_t word[4];
  };
  struct Memory {
    Slot of_cluster[2][kClusterBlocks * kClusterWarps];
    Slot of_block[2][kClusterWarps];
    uint64_t arrivals[2];
  };

  // A barrier of the cluster.
  __device__ explicit ClusterJoin(Memory& memory) : memory_(memory) {
#if __CUDA_ARCH__ >= 900
    if (threadIdx.x == 0) {
      for (uint64_t& arrivals : memory.arrivals) {
        asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(Address(&arrivals)) : "memory");
      }
      asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    }
#endif
    ClusterBarrier();
  }

  template <typename T>
  __device__ T OfCluster(T value) {
    static_assert(sizeof(T) == sizeof(Slot) && kSlots % 32 == 0);
    const int turn = joins_ % 2;
    Slot* slots = memory_.of_cluster[turn];
    const uint32_t arrivals = Address(&memory_.arrivals[turn]);
    if (threadIdx.x == 0) Expect(arrivals);
    value = WarpJoin(value);
    if (Lane() < kClusterBlocks) {
      const Slot* mine = &slots[ClusterRank() * kClusterWarps + Warp()];
      Send(std::bit_cast<Slot>(value), Address(mine), arrivals, Lane());
    }
    Wait(arrivals, joins_ / 2 % 2);
    ++joins_;
    value = std::bit_cast<T>(slots[Lane()]);
    for (int i = Lane() + 32; i < kSlots; i += 32) value = value.Join(std::bit_cast<T>(slots[i]));
    return WarpJoin(value);
  }

  // Slots in turn here too: the barrier of the call between keeps writers of a set behind its last readers.
  template <typename T>
  __device__ T OfBlock(T value) {
    static_assert(sizeof(T) == sizeof(Slot));
    Slot* slots = memory_.of_block[block_joins_++ % 2];
    value = WarpJoin(value);
    if (Lane() == 0) slots[Warp()] = std::bit_cast<Slot>(value);
    __syncthreads();
    value = std::bit_cast<T>(slots[0]);
    for (int i = 1; i < kClusterWarps; ++i) value = value.Join(std::bit_cast<T>(slots[i]));
    return value;
  }

 private:
  static constexpr int kSlots = kClusterBlocks * kClusterWarps;

  __device__ static int Warp() { return threadIdx.x / 32; }
  __device__ static int Lane() { return threadIdx.x % 32; }
  __device__ static uint32_t Address(const void* shared) {
    return static_cast<uint32_t>(__cvta_generic_to_shared(shared));
  }

#if __CUDA_ARCH__ >= 900
  __device__ static void Expect(uint32_t arrivals) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(arrivals),
                 "n"(kSlots * sizeof(Slot))
                 : "memory");
  }
  // To the block of that rank: the addresses are this block's own.
  __device__ static void Send(const Slot& slot, uint32_t address, uint32_t arrivals, int rank) {
    asm volatile(
        "{\n"
        ".reg .b32 slot, arrivals;\n"
        "mapa.shared::cluster.u32 slot, %0, %2;\n"
        "mapa.shared::cluster.u32 arrivals, %1, %2;\n"
        "st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.v4.b32 [slot], {%3, %4, %5, %6}, "
        "[arrivals];\n"
        "}" ::"r"(address),
        "r"(arrivals), "r"(rank), "r"(slot.word[0]), "r"(slot.word[1]), "r"(slot.word[2]), "r"(slot.word[3])
        : "memory");
  }
  __device__ static void Wait(uint32_t arrivals, uint32_t parity) {
    asm volatile(
        "{\n"
        ".reg .pred done;\n"
        "again:\n"
        "mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 done, [%0], %1;\n"
        "@!done bra again;\n"
        "}" ::"r"(arrivals),
        "r"(parity)
        : "memory");
  }
#else
  __device__ static void Expect(uint32_t) {}
  __device__ static void Send(const Slot&, uint32_t, uint32_t, int) {}
  __device__ static void Wait(uint32_t, uint32_t) {}
#endif

  Memory& memory_;
  unsigned joins_ = 0;  // over the cluster
  unsigned block_joins_ = 0;
};

}  // namespace yoio::kernels::cuda

#endif  // YOIO_KERNELS_CUDA_ROW_CLUSTER_CUH_
