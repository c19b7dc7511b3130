// The slots, blocks and places on the host that sequences hold, and the prefix cache beside them.
#ifndef YOIO_ENGINE_SEQUENCE_MEMORY_H_
#define YOIO_ENGINE_SEQUENCE_MEMORY_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "engine/block_pool.h"
#include "engine/prefix_cache.h"
#include "engine/scheduler_options.h"
#include "engine/sequence.h"
#include "engine/step_plan.h"

namespace yoio {

// Every rank runs plans in order, and the copies of a plan before anything else in it. So what a sequence
// lets go of may be given away at once: whoever takes it writes in the next plan or later, after every plan
// that still uses it for the old one. Only places on the host that a plan copies from wait for the plan after
// it, because a plan's copies to the host come first. Blocks that only the prefix cache holds count as free.
// Engine thread only.
class SequenceMemory {
 public:
  explicit SequenceMemory(const SchedulerOptions& options);

  int32_t total_blocks() const { return blocks_.total(); }
  int32_t free_blocks() const { return blocks_.free() + cached_blocks(); }
  int32_t cached_blocks() const { return cache_ == nullptr ? 0 : cache_->evictable(); }
  int32_t free_slots() const { return static_cast<int32_t>(free_slots_.size()); }
  // Blocks that running requests of the tenant have taken, or keep from being free.
  int32_t BlocksOf(const std::string& tenant) const;

  // What the cache has of a prompt; nothing when the request takes no part in it.
  PrefixCache::Hit Find(const SequenceGroup& group);
  // `choice` gets a slot and the blocks of `hit`, which it kept `pinned` of from being free. It goes on where
  // it was swapped out, else at the start of the hit.
  void Start(SequenceGroup& group, int32_t choice, PrefixCache::Hit hit, int32_t pinned);
  // Takes blocks until it has `blocks` of them; free_blocks() must be as many as are missing.
  void Grow(SequenceGroup& group, int32_t choice, int32_t blocks);
  // What Start does not share with others comes back from the host: after Grow, which made room for it.
  void SwapIn(SequenceGroup& group, int32_t choice);
  // Lets go of slot, blocks and places on the host.
  void Release(SequenceGroup& group, int32_t choice);

  // Whether the host has room for what it has computed.
  bool CanSwapOut(const Sequence& sequence) const;
  // As Release, but what it has computed goes to the host.
  void SwapOut(SequenceGroup& group, int32_t choice);

  // Leaves full blocks to the prefix cache, as far as plans have written them and their tokens are known.
  void Remember(const SequenceGroup& group, Sequence& sequence);
  // Leaves the ring as the newest plan has it. Before anybody looks for hits for the next plan.
  void RememberRing(const SequenceGroup& group, Sequence& sequence);
  bool remembers_rings() const {
    return cache_ != nullptr && options_.ring_tokens > 0 && options_.num_snapshots > 0;
  }
  // The prefix cache forgets everything.
  void ClearCache();

  // The workers learn of a slot's new life with the next plan.
  void Admit(SlotAdmission admission) { next_.admitted.push_back(std::move(admission)); }
  // The released and admitted slots, and the copies, of this plan, which runs next.
  void Fill(StepPlan& plan);

 private:
  Block TakeBlock();
  void FreeHost(Sequence& sequence);
  void Charge(const SequenceGroup& group, Sequence& sequence, int32_t blocks);
  // Blocks with something in them.
  int32_t FilledBlocks(const Sequence& sequence) const {
    return (sequence.planned_tokens + options_.block_tokens - 1) / options_.block_tokens;
  }

  const SchedulerOptions options_;
  BlockPool blocks_;
  std::unique_ptr<PrefixCache> cache_;  // null: there is none
  std::vector<int32_t> free_slots_;
  std::vector<int32_t> free_host_blocks_, free_host_rings_;
  std::vector<int32_t> left_host_blocks_, left_host_rings_;  // free after the next plan
  absl::flat_hash_map<std::string, int32_t> charged_;        // blocks by tenant
  StepPlan next_;                                            // what the next plan copies, releases and admits
};

}  // namespace yoio

#endif  // YOIO_ENGINE_SEQUENCE_MEMORY_H_
