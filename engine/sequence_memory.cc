#include "engine/sequence_memory.h"

#include <algorithm>
#include <numeric>
#include <span>
#include <utility>

#include "base/check.h"

namespace yoio {
namespace {

// Nobody finds what another tenant, or another salt, has left. Neither holds the byte between them.
std::string ScopeOf(const SequenceGroup& group) { return group.tenant + '\0' + group.cache.salt; }

// Lowest last, so that it is taken first.
std::vector<int32_t> Descending(int32_t count) {
  std::vector<int32_t> ids(count);
  std::iota(ids.rbegin(), ids.rend(), 0);
  return ids;
}

int32_t TakeLast(std::vector<int32_t>& ids) {
  const int32_t id = ids.back();
  ids.pop_back();
  return id;
}

}  // namespace

SequenceMemory::SequenceMemory(const SchedulerOptions& options)
    : options_(options),
      blocks_(options.num_blocks),
      free_slots_(Descending(options.max_sequences)),
      free_host_blocks_(Descending(options.host_blocks)),
      free_host_rings_(Descending(options.host_rings)) {
  if (!options.prefix_cache) return;
  cache_ = std::make_unique<PrefixCache>(PrefixCacheOptions{.block_tokens = options.block_tokens,
                                                            .first_snapshot = options.max_sequences,
                                                            .num_snapshots = options.num_snapshots,
                                                            .ring_tokens = options.ring_tokens,
                                                            .replay_tokens = options.replay_tokens},
                                         blocks_);
}

int32_t SequenceMemory::BlocksOf(const std::string& tenant) const {
  const auto it = charged_.find(tenant);
  return it == charged_.end() ? 0 : it->second;
}

void SequenceMemory::Charge(const SequenceGroup& group, Sequence& sequence, int32_t blocks) {
  if (blocks == 0) return;
  sequence.charged_blocks += blocks;
  const auto it = charged_.try_emplace(group.tenant, 0).first;
  if ((it->second += blocks) == 0) charged_.erase(it);
}

PrefixCache::Hit SequenceMemory::Find(const SequenceGroup& group) {
  if (cache_ == nullptr || group.cache.bypass) return {};
  const std::string scope = ScopeOf(group);
  PrefixCache::Hit hit;
  if (group.logprobs.prompt) {  // every token's row is wanted
    hit.node = cache_->Root(scope);
    return hit;
  }
  std::span<const int32_t> prompt = group.prompt;
  if (!group.choices.empty() && !group.choices[0].host_blocks.empty()) {
    // No further than it has come itself: there its ring stands.
    prompt = prompt.first(std::min(prompt.size(), static_cast<size_t>(group.choices[0].planned_tokens) + 1));
  }
  return cache_->Find(scope, prompt);
}

void SequenceMemory::Start(SequenceGroup& group, int32_t choice, PrefixCache::Hit hit, int32_t pinned) {
  Sequence& sequence = group.choices[choice];
  sequence.slot = TakeLast(free_slots_);
  sequence.blocks = std::move(hit.blocks);
  Charge(group, sequence, pinned);
  sequence.node.reset();
  if (cache_ != nullptr && !group.cache.bypass) sequence.node = hit.node;
  sequence.node_blocks = static_cast<int32_t>(sequence.blocks.size());
  if (!sequence.host_blocks.empty()) return;
  sequence.planned_tokens = hit.start;
  sequence.global_from = hit.tokens;
  if (hit.snapshot >= 0) next_.ring_copies.push_back({hit.snapshot, sequence.slot});
}

Block SequenceMemory::TakeBlock() {
  if (blocks_.free() == 0) YOIO_CHECK(cache_ != nullptr && cache_->EvictBlock()) << "no block is free";
  return blocks_.Take();
}

void SequenceMemory::Grow(SequenceGroup& group, int32_t choice, int32_t blocks) {
  Sequence& sequence = group.choices[choice];
  const int32_t missing = blocks - static_cast<int32_t>(sequence.blocks.size());
  for (int32_t i = 0; i < missing; ++i) sequence.blocks.push_back(TakeBlock());
  Charge(group, sequence, std::max(0, missing));
}

void SequenceMemory::Release(SequenceGroup& group, int32_t choice) {
  Sequence& sequence = group.choices[choice];
  FreeHost(sequence);
  if (sequence.slot < 0) return;
  next_.released_slots.push_back(sequence.slot);
  free_slots_.push_back(std::exchange(sequence.slot, -1));
  sequence.blocks.clear();
  Charge(group, sequence, -sequence.charged_blocks);
}

bool SequenceMemory::CanSwapOut(const Sequence& sequence) const {
  const int32_t blocks = FilledBlocks(sequence);
  // While it is replayed, it has more blocks than it has come through.
  return blocks > 0 && sequence.planned_tokens >= sequence.global_from &&
         blocks <= static_cast<int32_t>(free_host_blocks_.size()) &&
         (options_.ring_tokens == 0 || !free_host_rings_.empty());
}

void SequenceMemory::SwapOut(SequenceGroup& group, int32_t choice) {
  Sequence& sequence = group.choices[choice];
  std::vector<int32_t> host_blocks;
  for (int32_t i = 0; i < FilledBlocks(sequence); ++i) {
    host_blocks.push_back(TakeLast(free_host_blocks_));
    next_.swap_out_blocks.push_back({sequence.blocks[i].id(), host_blocks.back()});
  }
  int32_t host_ring = -1;
  if (options_.ring_tokens > 0) {
    host_ring = TakeLast(free_host_rings_);
    next_.swap_out_rings.push_back({sequence.slot, host_ring});
  }
  Release(group, choice);
  sequence.host_blocks = std::move(host_blocks);
  sequence.host_ring = host_ring;
}

void SequenceMemory::SwapIn(SequenceGroup& group, int32_t choice) {
  Sequence& sequence = group.choices[choice];
  for (size_t i = sequence.node_blocks; i < sequence.host_blocks.size(); ++i) {
    next_.swap_in_blocks.push_back({sequence.host_blocks[i], sequence.blocks[i].id()});
  }
  if (sequence.host_ring >= 0) next_.swap_in_rings.push_back({sequence.host_ring, sequence.slot});
  FreeHost(sequence);
}

void SequenceMemory::FreeHost(Sequence& sequence) {
  left_host_blocks_.insert(left_host_blocks_.end(), sequence.host_blocks.begin(), sequence.host_blocks.end());
  sequence.host_blocks.clear();
  if (sequence.host_ring >= 0) left_host_rings_.push_back(std::exchange(sequence.host_ring, -1));
}

void SequenceMemory::Remember(const SequenceGroup& group, Sequence& sequence) {
  if (!sequence.node.has_value()) return;
  const int32_t tokens = std::min(sequence.planned_tokens, group.KnownTokens(sequence));
  if ((sequence.node_blocks + 1) * options_.block_tokens > tokens) return;
  std::vector<int32_t> ids(options_.block_tokens);
  for (; (sequence.node_blocks + 1) * options_.block_tokens <= tokens; ++sequence.node_blocks) {
    const int32_t first = sequence.node_blocks * options_.block_tokens;
    for (int32_t i = 0; i < options_.block_tokens; ++i) ids[i] = group.TokenAt(sequence, first + i);
    sequence.node = cache_->Extend(*sequence.node, ids, sequence.blocks[sequence.node_blocks]);
  }
}

void SequenceMemory::RememberRing(const SequenceGroup& group, Sequence& sequence) {
  if (!sequence.node.has_value() || !remembers_rings()) return;
  Remember(group, sequence);
  // A ring that has not come through its replay is no use, nor is one that ends in a token still unknown.
  const int32_t tokens = sequence.planned_tokens;
  if (tokens <= sequence.global_from || tokens > group.KnownTokens(sequence)) return;
  std::vector<int32_t> tail;
  for (int32_t i = sequence.node_blocks * options_.block_tokens; i < tokens; ++i) {
    tail.push_back(group.TokenAt(sequence, i));
  }
  const int32_t snapshot = cache_->TakeSnapshot(*sequence.node, tail);
  if (snapshot < 0) return;
  // The cache may have given the same one away since the last plan.
  std::erase_if(next_.ring_saves, [&](const BlockCopy& copy) { return copy.destination == snapshot; });
  next_.ring_saves.push_back({sequence.slot, snapshot});
}

void SequenceMemory::ClearCache() {
  if (cache_ != nullptr) cache_->Clear();
}

void SequenceMemory::Fill(StepPlan& plan) {
  plan.released_slots = std::exchange(next_.released_slots, {});
  plan.admitted = std::exchange(next_.admitted, {});
  plan.swap_out_blocks = std::exchange(next_.swap_out_blocks, {});
  plan.swap_out_rings = std::exchange(next_.swap_out_rings, {});
  plan.ring_saves = std::exchange(next_.ring_saves, {});
  plan.ring_copies = std::exchange(next_.ring_copies, {});
  plan.swap_in_blocks = std::exchange(next_.swap_in_blocks, {});
  plan.swap_in_rings = std::exchange(next_.swap_in_rings, {});
  free_host_blocks_.insert(free_host_blocks_.end(), left_host_blocks_.begin(), left_host_blocks_.end());
  free_host_rings_.insert(free_host_rings_.end(), left_host_rings_.begin(), left_host_rings_.end());
  left_host_blocks_.clear();
  left_host_rings_.clear();
}

}  // namespace yoio
