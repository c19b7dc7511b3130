#include "engine/model/kv_cache.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/status.h"

namespace yoio {
namespace {

using kernels::kBlockTokens;

constexpr size_t kMostPairs = 8192;       // of one copy; more take several
constexpr int32_t kMeasuredBlocks = 256;  // enough to keep a bus busy

// Elements of one cached token in `store` on this rank.
int64_t TokenWidth(const Store& store, const Shard& shard) {
  return static_cast<int64_t>(shard.kv_heads) * 2 * store.head_dim;
}

absl::StatusOr<kernels::Buffer> HostPlaces(int64_t bytes, kernels::Backend& backend) {
  absl::StatusOr<kernels::Buffer> places = backend.AllocateHost(bytes);
  if (places.ok()) return places;
  return absl::Status(places.status().code(),
                      absl::StrCat("host memory for preempted sequences, as --swap-bytes says: ",
                                   std::string(places.status().message())));
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

void KvCache::Group::Add(void* data, int64_t bytes) {
  pieces.push_back({data, bytes, host_stride});
  host_stride += bytes;
}

KvCache::KvCache(const CacheGeometry& geometry)
    : geometry_(geometry),
      blocks_{.count = geometry.num_blocks, .host_count = geometry.host_blocks, .pieces = {}, .host = {}},
      rings_{.count = geometry.max_sequences + geometry.num_snapshots,
             .host_count = geometry.host_rings,
             .pieces = {},
             .host = {}} {}

absl::StatusOr<std::unique_ptr<KvCache>> KvCache::Create(const ModelConfig& config, const Shard& shard,
                                                         const CacheGeometry& geometry,
                                                         kernels::Backend& backend) {
  auto cache = std::unique_ptr<KvCache>(new KvCache(geometry));
  const auto element_bytes = static_cast<int64_t>(SizeOf(backend.activation_type()));
  const auto add = [&](int64_t bytes, Group& group, std::vector<kernels::Buffer>& to) -> absl::Status {
    YOIO_ASSIGN_OR_RETURN(kernels::Buffer buffer, backend.Allocate(group.count * bytes));
    group.Add(buffer.data(), bytes);
    to.push_back(std::move(buffer));
    return absl::OkStatus();
  };
  for (const Store& store : config.plan.stores) {
    const int64_t token_bytes = TokenWidth(store, shard) * element_bytes;
    if (store.window == 0) {
      YOIO_RETURN_IF_ERROR(add(kBlockTokens * token_bytes, cache->blocks_, cache->stores_));
    } else {
      YOIO_RETURN_IF_ERROR(add(geometry.ring_tokens * token_bytes, cache->rings_, cache->stores_));
    }
  }
  if (shard.indexes()) {
    for (const Indexer& indexer : config.plan.indexers) {
      YOIO_RETURN_IF_ERROR(
          add(kBlockTokens * indexer.dim * element_bytes, cache->blocks_, cache->index_keys_));
    }
  }
  for (Group* group : {&cache->blocks_, &cache->rings_}) {
    YOIO_ASSIGN_OR_RETURN(group->host, HostPlaces(group->host_count * group->host_stride, backend));
  }
  YOIO_ASSIGN_OR_RETURN(cache->pairs_, backend.Allocate(kMostPairs * sizeof(BlockCopy)));
  return cache;
}

void KvCache::Copy(const StepPlan& plan, kernels::Backend& backend, kernels::Stream& stream) const {
  const auto copy = [&](const std::vector<BlockCopy>& copies, const Group& group, Way way) {
    Copy(copies, group, way, backend, stream);
  };
  copy(plan.swap_out_blocks, blocks_, Way::kToHost);
  copy(plan.swap_out_rings, rings_, Way::kToHost);
  copy(plan.ring_saves, rings_, Way::kInside);
  copy(plan.block_copies, blocks_, Way::kInside);
  copy(plan.ring_copies, rings_, Way::kInside);
  copy(plan.swap_in_blocks, blocks_, Way::kFromHost);
  copy(plan.swap_in_rings, rings_, Way::kFromHost);
}

void KvCache::Copy(const std::vector<BlockCopy>& copies, const Group& group, Way way,
                   kernels::Backend& backend, kernels::Stream& stream) const {
  static_assert(sizeof(BlockCopy) == 2 * sizeof(int32_t), "copied as pairs of ids");
  const bool from_host = way == Way::kFromHost, to_host = way == Way::kToHost;
  const int32_t sources = from_host ? group.host_count : group.count;
  const int32_t destinations = to_host ? group.host_count : group.count;
  for (const auto& [source, destination] : copies) {
    YOIO_CHECK(source >= 0 && source < sources && destination >= 0 && destination < destinations)
        << "copy from " << source << " of " << sources << " to " << destination << " of " << destinations;
  }
  for (size_t begin = 0; begin < copies.size(); begin += kMostPairs) {
    const size_t count = std::min(kMostPairs, copies.size() - begin);
    backend.CopyToDevice(pairs_.data(), copies.data() + begin, count * sizeof(BlockCopy), stream);
    for (const Piece& piece : group.pieces) {
      char* host = group.host.As<char>() + piece.host_offset;
      backend.CopyBlocks({.from = from_host ? host : piece.data,
                          .from_stride = from_host ? group.host_stride : piece.bytes,
                          .to = to_host ? host : piece.data,
                          .to_stride = to_host ? group.host_stride : piece.bytes,
                          .block_bytes = piece.bytes,
                          .pairs = pairs_.As<int32_t>(),
                          .num_pairs = static_cast<int>(count)},
                         stream);
    }
  }
}

void KvCache::ClearRing(int32_t slot, kernels::Backend& backend, kernels::Stream& stream) const {
  for (const Piece& piece : rings_.pieces) {
    backend.Fill(static_cast<char*>(piece.data) + slot * piece.bytes, 0, piece.bytes, stream);
  }
}

absl::StatusOr<double> KvCache::MeasureSwap(kernels::Backend& backend, kernels::Stream& stream) const {
  const int32_t count = std::min({geometry_.host_blocks, geometry_.num_blocks, kMeasuredBlocks});
  if (count == 0) return 0.0;
  StepPlan plan;
  for (int32_t id = 0; id < count; ++id) {
    plan.swap_out_blocks.push_back({id, id});
    plan.swap_in_blocks.push_back({id, id});
  }
  double seconds = 0;
  for (int turn = 0; turn < 2; ++turn) {  // the first of which loads and maps
    const TimePoint begin = Clock::now();
    Copy(plan, backend, stream);
    YOIO_RETURN_IF_ERROR(backend.Synchronize(stream));
    seconds = ToSeconds(Clock::now() - begin);
  }
  return seconds / count;
}

}  // namespace yoio
