// What earlier sequences left in the cache, found again by the tokens that made it.
#ifndef YOIO_ENGINE_PREFIX_CACHE_H_
#define YOIO_ENGINE_PREFIX_CACHE_H_

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "engine/block_pool.h"

namespace yoio {

struct PrefixCacheOptions {
  int32_t block_tokens = 64;
  int32_t first_snapshot = 0;  // id of the first snapshot ring
  int32_t num_snapshots = 0;
  int32_t ring_tokens = 0;    // of one ring; 0: the model has no window group, and needs no snapshot
  int32_t replay_tokens = 0;  // so many tokens replayed before a position make its ring exact
};

// A tree of whole blocks: the children of a node continue its prefix by one block each. Chained hashes find a
// child, and its token ids are compared. Each node shares in its block; a snapshot, a ring as it was at some
// position, belongs to the prefix that ends there. Roots are per scope (tenant and salt), so that nobody
// learns from the time what others have asked. Least recently used goes first, leaves before what they
// continue. Pure policy; engine thread only.
class PrefixCache {
 public:
  // A place in the tree: a prefix of whole blocks. Valid while somebody holds the blocks of that prefix.
  using Node = int32_t;

  // `blocks` outlives it.
  PrefixCache(const PrefixCacheOptions& options, BlockPool& blocks);
  ~PrefixCache();

  // Where a prompt can begin.
  struct Hit {
    std::vector<Block> blocks;  // of the tokens [0, tokens)
    int32_t tokens = 0;         // whole blocks, and less than the prompt
    int32_t start = 0;          // the first token to run; those in [start, tokens) are replayed
    int32_t snapshot = -1;      // the ring to copy to the slot before that; -1: none is needed
    Node node = 0;              // the prefix of `tokens`; Root(scope) with no hit
  };
  // The longest prefix, unless replaying up to it costs more tokens than it saves. It counts as used now. The
  // snapshot stays as it is until a later TakeSnapshot or Clear: copy it in the very next plan.
  Hit Find(std::string_view scope, std::span<const int32_t> prompt);

  Node Root(std::string_view scope);
  // `block` holds the tokens that continue `prefix` (block_tokens of them), written by plans up to the next
  // one. When the tree has a block for them already, that one stays, and `block` its holder's own.
  Node Extend(Node prefix, std::span<const int32_t> tokens, const Block& block);

  // The ring to save a slot's ring to, which stands at `prefix` and `tail` further tokens, fewer than a
  // block; -1 when an equally good one is there, or none can be had. The copy must stand in the next plan's
  // ring_saves, before anything else is copied to that ring.
  int32_t TakeSnapshot(Node prefix, std::span<const int32_t> tail);

  // Returns the least recently used block that nobody else holds to the pool; false when there is none.
  bool EvictBlock();
  // Blocks that only this cache holds.
  int32_t evictable() const;
  int32_t num_snapshots_held() const;

  // Forgets everything.
  void Clear();
};

}  // namespace yoio

#endif  // YOIO_ENGINE_PREFIX_CACHE_H_
