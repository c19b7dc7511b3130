// What earlier sequences left in the cache, found again by the tokens that made it.
#ifndef YOIO_ENGINE_PREFIX_CACHE_H_
#define YOIO_ENGINE_PREFIX_CACHE_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
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
// continue; a block counts as used for as long as anybody else holds it. Pure policy; engine thread only.
class PrefixCache : private BlockKeeper {
 public:
  // A place in the tree: a prefix of whole blocks. It stays for as long as somebody holds its block, but two
  // sequences that compute the same tokens at once hold blocks of their own, and the tree has one of them:
  // so a place may go while a sequence still stands there. Then it ends nowhere: nothing continues it.
  using Node = int64_t;

  // `blocks` outlives it.
  PrefixCache(const PrefixCacheOptions& options, BlockPool& blocks);
  ~PrefixCache();
  PrefixCache(const PrefixCache&) = delete;
  PrefixCache& operator=(const PrefixCache&) = delete;

  // Where a prompt can begin.
  struct Hit {
    std::vector<Block> blocks;  // of the tokens [0, tokens)
    int32_t tokens = 0;         // whole blocks, and less than the prompt
    int32_t start = 0;          // the first token to run; those in [start, tokens) are replayed
    int32_t snapshot = -1;      // the ring to copy to the slot before that; -1: none is needed
    Node node = 0;              // the prefix of `tokens`; Root(scope) with no hit
  };
  // The longest prefix, with the shortest replay. A replayed token costs what any prompt token costs, so that
  // even a prefix that is replayed from the first token on costs nothing, and saves its blocks.
  //
  // The snapshot stays as it is until a later TakeSnapshot or Clear: copy it in the very next plan. So those
  // who take snapshots for the same plan do so before they look for hits, or name the rings of those hits.
  Hit Find(std::string_view scope, std::span<const int32_t> prompt);

  Node Root(std::string_view scope);
  // `block` holds the tokens that continue `prefix` (block_tokens of them), written by plans up to the next
  // one. When the tree has a block for them already, that one stays, and `block` its holder's own.
  Node Extend(Node prefix, std::span<const int32_t> tokens, const Block& block);

  // The ring to save a slot's ring to, which stands at `prefix` and `tail` further tokens, fewer than a
  // block; -1 when an equally good one is there, or none can be had. The copy must stand in the next plan's
  // ring_saves, before anything else is copied to that ring. Of `busy`, snapshots that the same plan copies
  // to slots, none is given to another prefix.
  int32_t TakeSnapshot(Node prefix, std::span<const int32_t> tail, std::span<const int32_t> busy = {});

  // Returns the least recently used block that nobody else holds to the pool; false when there is none.
  bool EvictBlock();
  // Blocks that only this cache holds.
  int32_t evictable() const { return num_idle_; }
  int32_t num_blocks_held() const { return static_cast<int32_t>(children_.size()); }
  int32_t num_snapshots_held() const { return num_snapshots_held_; }

  // Forgets everything.
  void Clear();

 private:
  // Nodes are numbered as their blocks are, then come the roots.
  struct Entry {
    Block block;  // of a root: none
    bool live = false;
    uint32_t generation = 0;  // how often another prefix was here
    int32_t parent = -1;
    int32_t depth = 0;  // blocks of the prefix
    int32_t first_child = -1;
    int32_t previous_sibling = -1, next_sibling = -1;
    int32_t snapshot = -1;  // index into snapshots_
    size_t hash = 0;        // of the whole prefix
    int64_t used = 0;       // when somebody else held the block last; meaningful while idle
    bool idle = false;      // nobody else holds the block
    int32_t previous_idle = -1, next_idle = -1;
  };
  // A ring at `tail` tokens behind the prefix of `owner`. Because a ring is a block longer than the window,
  // it serves every position from the end of that prefix on, and has at least one token of tail, up to a
  // block.
  struct Snapshot {
    int32_t owner = -1;  // -1: not in use
    std::vector<int32_t> tail;
    int64_t used = 0;
  };
  struct Child {
    int32_t parent;
    std::span<const int32_t> tokens;
    size_t hash;
  };
  struct ChildHash {
    using is_transparent = void;
    const PrefixCache* cache;
    size_t operator()(int32_t node) const { return cache->entries_[node].hash; }
    size_t operator()(const Child& child) const { return child.hash; }
  };
  struct ChildEq {
    using is_transparent = void;
    const PrefixCache* cache;
    bool operator()(int32_t a, int32_t b) const { return a == b; }
    bool operator()(int32_t node, const Child& child) const { return cache->Matches(node, child); }
    bool operator()(const Child& child, int32_t node) const { return cache->Matches(node, child); }
  };

  void OnShared(int32_t id) override;
  void OnAlone(int32_t id) override;

  Node Handle(int32_t index) const;
  int32_t IndexOf(Node node) const;  // -1 when that place is gone
  bool IsRoot(int32_t index) const { return index >= blocks_.total(); }
  std::span<const int32_t> TokensOf(int32_t index) const;
  bool Matches(int32_t node, const Child& child) const;
  Child MakeChild(int32_t parent, std::span<const int32_t> tokens) const;
  int32_t FindRoot(std::string_view scope);
  void NoteChildless(int32_t root);
  void FindStart(std::span<const int32_t> prompt, int32_t node, Hit& hit);
  void Link(int32_t parent, int32_t child);
  void Unlink(int32_t child);
  void Remove(int32_t node);
  void RemoveWithChildren(int32_t node);
  void RemoveRoot(int32_t root);
  void DropSnapshot(int32_t node);
  int32_t RecycledSnapshot(std::span<const int32_t> busy);

  const PrefixCacheOptions options_;
  BlockPool& blocks_;
  std::vector<Entry> entries_;
  std::unique_ptr<int32_t[]> tokens_;  // [blocks, block_tokens]
  absl::flat_hash_set<int32_t, ChildHash, ChildEq> children_;
  absl::flat_hash_map<std::string, int32_t> roots_;
  std::vector<std::string> root_names_;  // from the first root on
  std::vector<int32_t> free_roots_;
  std::deque<Node> childless_roots_;  // in the order in which they became so; some may have children again
  std::vector<Snapshot> snapshots_;
  int32_t num_snapshots_held_ = 0;
  int64_t now_ = 0;  // counts uses
  int32_t num_idle_ = 0;
  int32_t first_idle_ = -1, last_idle_ = -1;           // all idle nodes, in the order of their last use
  std::set<std::pair<int64_t, int32_t>> idle_leaves_;  // by their last use
};

}  // namespace yoio

#endif  // YOIO_ENGINE_PREFIX_CACHE_H_
