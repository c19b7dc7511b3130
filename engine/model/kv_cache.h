// One rank's share of the cache: keys and values of every store, the index keys where the rank indexes, and
// room in the host's memory for blocks and rings of preempted sequences.
#ifndef YOIO_ENGINE_MODEL_KV_CACHE_H_
#define YOIO_ENGINE_MODEL_KV_CACHE_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/model/plan.h"
#include "engine/model/weights.h"
#include "engine/step_plan.h"
#include "kernels/backend.h"

namespace yoio {

// Sizes of the two groups of blocks. Global blocks grow with a sequence; window stores are rings, one per
// sequence slot, that never grow.
struct CacheGeometry {
  int32_t num_blocks = 0;     // global group
  int32_t max_sequences = 0;  // slots, each with a ring: their ids come first
  int32_t num_snapshots = 0;  // further rings, copies that the prefix cache keeps
  int32_t host_blocks = 0;    // places in the host's memory for blocks and rings of preempted sequences
  int32_t host_rings = 0;
  int32_t max_blocks_per_sequence = 0;
  int32_t ring_tokens = 0;  // ceil(window / 64) + 1 blocks, in tokens; 0 without window stores

  static int32_t RingTokens(const ModelPlan& plan);
};

// Bytes of one global block and of one ring, over all stores, on this rank (index keys where it indexes),
// with elements of `type`.
int64_t BytesPerBlock(const ModelConfig& config, const Shard& shard, kernels::DType type);
int64_t BytesPerRing(const ModelConfig& config, const Shard& shard, kernels::DType type);

// Rank thread only. Layout of every store: [slot][kv_head][K|V][head_dim], activations.
class KvCache {
 public:
  static absl::StatusOr<std::unique_ptr<KvCache>> Create(const ModelConfig& config, const Shard& shard,
                                                         const CacheGeometry& geometry,
                                                         kernels::Backend& backend);

  const CacheGeometry& geometry() const { return geometry_; }
  kernels::Activation* store(int index) const { return stores_[index].As<kernels::Activation>(); }
  kernels::Activation* index_keys(int indexer) const {  // where the rank indexes
    return index_keys_[indexer].As<kernels::Activation>();
  }
  // Sizes of the two in bytes.
  int64_t store_bytes(int index) const { return static_cast<int64_t>(stores_[index].bytes()); }
  int64_t index_key_bytes(int indexer) const { return static_cast<int64_t>(index_keys_[indexer].bytes()); }

  // The copies that a plan asks for before anything else, in their order.
  void Copy(const StepPlan& plan, kernels::Backend& backend, kernels::Stream& stream) const;

  // Fills the ring of a slot with zeros. What begins behind tokens that were never in its ring is replayed
  // from there: its first rows look back on them, and whatever they find passes through, but for NaN.
  void ClearRing(int32_t slot, kernels::Backend& backend, kernels::Stream& stream) const;

  // Seconds that one block takes to the host and back; 0 without room there. Moves blocks to where they are:
  // for the start, when nothing else is queued.
  absl::StatusOr<double> MeasureSwap(kernels::Backend& backend, kernels::Stream& stream) const;

 private:
  // What one block or ring has in one store: where those of all lie side by side, and where in a place on the
  // host, which holds those of all stores.
  struct Piece {
    void* data;
    int64_t bytes;
    int64_t host_offset;
  };
  struct Group {
    int32_t count;       // in device memory
    int32_t host_count;  // places on the host
    std::vector<Piece> pieces;
    kernels::Buffer host;
    int64_t host_stride = 0;

    void Add(void* data, int64_t bytes);
  };
  enum class Way { kInside, kToHost, kFromHost };

  explicit KvCache(const CacheGeometry& geometry);
  void Copy(const std::vector<BlockCopy>& copies, const Group& group, Way way, kernels::Backend& backend,
            kernels::Stream& stream) const;

  const CacheGeometry geometry_;
  std::vector<kernels::Buffer> stores_;
  std::vector<kernels::Buffer> index_keys_;
  Group blocks_, rings_;
  kernels::Buffer pairs_;  // device, ids of the copies under way
};

}  // namespace yoio

#endif  // YOIO_ENGINE_MODEL_KV_CACHE_H_
