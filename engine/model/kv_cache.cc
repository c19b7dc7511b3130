#include "engine/model/kv_cache.h"

#include <algorithm>

#include "base/status.h"

namespace yoio {
namespace {

using kernels::kBlockTokens;

// Elements of one cached token in `store` on this rank.
int64_t TokenWidth(const Store& store, const Shard& shard) {
  return static_cast<int64_t>(shard.kv_heads) * 2 * store.head_dim;
}

}  // namespace

int32_t CacheGeometry::RingTokens(const ModelPlan& plan) {
  int window = 0;
  for (const Store& store : plan.stores) window = std::max(window, store.window);
  return window == 0 ? 0 : ((window + kBlockTokens - 1) / kBlockTokens + 1) * kBlockTokens;
}

int64_t BytesPerBlock(const ModelConfig& config, const Shard& shard, kernels::DType type) {
  int64_t elements = 0;
  for (const Store& store : config.plan.stores) {
    if (store.window == 0) elements += TokenWidth(store, shard);
  }
  if (shard.indexes()) {
    for (const Indexer& indexer : config.plan.indexers) elements += indexer.dim;
  }
  return elements * kBlockTokens * static_cast<int64_t>(SizeOf(type));
}

int64_t BytesPerRing(const ModelConfig& config, const Shard& shard, kernels::DType type) {
  int64_t elements = 0;
  for (const Store& store : config.plan.stores) {
    if (store.window > 0) elements += TokenWidth(store, shard);
  }
  return elements * CacheGeometry::RingTokens(config.plan) * static_cast<int64_t>(SizeOf(type));
}

absl::StatusOr<std::unique_ptr<KvCache>> KvCache::Create(const ModelConfig& config, const Shard& shard,
                                                         const CacheGeometry& geometry,
                                                         kernels::Backend& backend) {
  auto cache = std::unique_ptr<KvCache>(new KvCache(config, shard, geometry, backend.activation_type()));
  const int64_t global_tokens = static_cast<int64_t>(geometry.num_blocks) * kBlockTokens;
  const int64_t ring_tokens = static_cast<int64_t>(geometry.max_sequences) * geometry.ring_tokens;
  for (const Store& store : config.plan.stores) {
    const int64_t tokens = store.window == 0 ? global_tokens : ring_tokens;
    YOIO_ASSIGN_OR_RETURN(kernels::Buffer buffer,
                          backend.Allocate(tokens * TokenWidth(store, shard) * cache->element_bytes_));
    cache->stores_.push_back(std::move(buffer));
  }
  if (shard.indexes()) {
    for (const Indexer& indexer : config.plan.indexers) {
      YOIO_ASSIGN_OR_RETURN(kernels::Buffer buffer,
                            backend.Allocate(global_tokens * indexer.dim * cache->element_bytes_));
      cache->index_keys_.push_back(std::move(buffer));
    }
  }
  return cache;
}

void KvCache::Copy(const StepPlan& plan, int32_t* pairs, kernels::Backend& backend,
                   kernels::Stream& stream) const {
  static_assert(sizeof(BlockCopy) == 2 * sizeof(int32_t), "copied as pairs of ids");
  const auto copy = [&](const std::vector<BlockCopy>& copies, bool window) {
    if (copies.empty()) return;
    backend.CopyToDevice(pairs, copies.data(), copies.size() * sizeof(BlockCopy), stream);
    const int num_pairs = static_cast<int>(copies.size());
    for (size_t i = 0; i < stores_.size(); ++i) {
      const Store& store = config_.plan.stores[i];
      if ((store.window > 0) != window) continue;
      const int64_t tokens = window ? geometry_.ring_tokens : kBlockTokens;
      const int64_t bytes = tokens * TokenWidth(store, shard_) * element_bytes_;
      backend.CopyBlocks({stores_[i].data(), bytes, pairs, num_pairs}, stream);
    }
    if (window) return;
    for (size_t i = 0; i < index_keys_.size(); ++i) {
      const int64_t bytes = kBlockTokens * config_.plan.indexers[i].dim * element_bytes_;
      backend.CopyBlocks({index_keys_[i].data(), bytes, pairs, num_pairs}, stream);
    }
  };
  copy(plan.block_copies, /*window=*/false);
  copy(plan.ring_copies, /*window=*/true);
}

}  // namespace yoio
