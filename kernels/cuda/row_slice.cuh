// A row of logits in the shared memory of a cluster of blocks: each block holds a slice.
#ifndef YOIO_KERNELS_CUDA_ROW_SLICE_CUH_
#define YOIO_KERNELS_CUDA_ROW_SLICE_CUH_

#include <climits>
#include <cmath>
#include <cstdint>

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/row_cluster.cuh"

namespace yoio::kernels::cuda {

// One block's part of a row, in groups of four tokens as the noise of a draw has them; behind the vocabulary
// it is filled up with minus infinity. A thread touches the same groups in every pass, and no others.
struct Slice {
  float4* logits;  // [groups], shared memory
  int first;       // group
  int groups;
};

__host__ __device__ inline int GroupsOfBlock(int vocab) {
  const int groups = (vocab + 3) / 4;
  return (groups + kClusterBlocks - 1) / kClusterBlocks;
}

// The part of this block, in dynamic shared memory.
__device__ __forceinline__ Slice SliceOf(int vocab, float4* shared) {
  const int first = ClusterRank() * GroupsOfBlock(vocab);
  return {shared, first, max(0, min(GroupsOfBlock(vocab), (vocab + 3) / 4 - first))};
}

// A cluster for each of `num_rows` rows.
inline LaunchShape ClusterForRows(int num_rows, int vocab) {
  return {.grid = static_cast<unsigned>(num_rows) * kClusterBlocks,
          .block = kClusterThreads,
          .shared_bytes = GroupsOfBlock(vocab) * sizeof(float4),
          .cluster = kClusterBlocks};
}

template <typename Visit>
__device__ __forceinline__ void ForGroups(const Slice& slice, const Visit& visit) {
  for (int i = threadIdx.x; i < slice.groups; i += kClusterThreads) visit(slice.first + i, slice.logits[i]);
}

__device__ __forceinline__ float HighestOf(float4 x) { return fmaxf(fmaxf(x.x, x.y), fmaxf(x.z, x.w)); }

// The highest logit, and the lowest id that has it.
struct alignas(16) Highest {
  float logit = -INFINITY;
  int32_t id = INT_MAX;
  int32_t nan = 0;

  // Ids come in ascending order.
  __device__ void See(int32_t next, float x) {
    nan |= x != x;
    if (x > logit) {
      logit = x;
      id = next;
    }
  }
  __device__ Highest Join(const Highest& other) const {
    Highest highest = logit > other.logit || (logit == other.logit && id < other.id) ? *this : other;
    highest.nan = nan | other.nan;
    return highest;
  }
};

// Reads this block's slice.
__device__ inline Highest Load(const float* logits, int vocab, const Slice& slice) {
  constexpr float kNothing = -INFINITY;
  Highest highest;
  highest.id = 4 * (slice.first + threadIdx.x);  // when all are minus infinity
  const auto keep = [&](int i, float4 x) {
    const int id = 4 * (slice.first + i);
    slice.logits[i] = x;
    highest.See(id, x.x);
    highest.See(id + 1, x.y);
    highest.See(id + 2, x.z);
    highest.See(id + 3, x.w);
  };
  const float* begin = logits + 4 * static_cast<int64_t>(slice.first);
  const bool aligned = reinterpret_cast<uintptr_t>(begin) % sizeof(float4) == 0;
  const int whole = aligned ? min(slice.groups, vocab / 4 - slice.first) : 0;
  int i = threadIdx.x;
#pragma unroll 8
  for (; i < whole; i += kClusterThreads) keep(i, __ldcg(reinterpret_cast<const float4*>(begin) + i));
  for (; i < slice.groups; i += kClusterThreads) {
    const int left = vocab - 4 * (slice.first + i);
    const float* x = begin + 4 * i;
    keep(i, {__ldcg(x), left > 1 ? __ldcg(x + 1) : kNothing, left > 2 ? __ldcg(x + 2) : kNothing,
             left > 3 ? __ldcg(x + 3) : kNothing});
  }
  return highest;
}

}  // namespace yoio::kernels::cuda

#endif  // YOIO_KERNELS_CUDA_ROW_SLICE_CUH_
