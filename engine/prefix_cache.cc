#include "engine/prefix_cache.h"

#include <algorithm>

#include "absl/hash/hash.h"
#include "absl/types/span.h"
#include "base/check.h"

namespace yoio {
namespace {

// Scopes without a block: those of sequences that have not filled one yet, and not many more.
constexpr size_t kMaxChildlessRoots = 4096;
// The table of nodes grows beyond this only with its use.
constexpr int32_t kReservedNodes = 1 << 20;

int32_t CommonLength(std::span<const int32_t> a, std::span<const int32_t> b) {
  return static_cast<int32_t>(std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first - a.begin());
}

}  // namespace

PrefixCache::PrefixCache(const PrefixCacheOptions& options, BlockPool& blocks)
    : options_(options),
      blocks_(blocks),
      entries_(blocks.total()),
      tokens_(new int32_t[static_cast<size_t>(blocks.total()) * options.block_tokens]),
      children_(std::min(blocks.total(), kReservedNodes), ChildHash{this}, ChildEq{this}),
      snapshots_(options.ring_tokens > 0 ? options.num_snapshots : 0) {}

PrefixCache::~PrefixCache() { Clear(); }

PrefixCache::Hit PrefixCache::Find(std::string_view scope, std::span<const int32_t> prompt) {
  const int32_t root = FindRoot(scope);
  // What follows the last whole block, or that block itself, is left to compute.
  const size_t whole = prompt.empty() ? 0 : (prompt.size() - 1) / options_.block_tokens;
  Hit hit;
  int32_t node = root;
  while (hit.blocks.size() < whole) {
    const auto tokens = prompt.subspan(hit.blocks.size() * options_.block_tokens, options_.block_tokens);
    const auto child = children_.find(MakeChild(node, tokens));
    if (child == children_.end()) break;
    node = *child;
    hit.blocks.push_back(entries_[node].block);
  }
  hit.node = Handle(node);
  hit.tokens = entries_[node].depth * options_.block_tokens;
  hit.start = hit.tokens;
  if (options_.ring_tokens > 0 && hit.tokens > 0) FindStart(prompt, node, hit);
  return hit;
}

// The latest snapshot of the prefix, or a replay that needs none, whichever starts later.
void PrefixCache::FindStart(std::span<const int32_t> prompt, int32_t node, Hit& hit) {
  hit.start = std::max(0, hit.tokens - options_.replay_tokens);
  for (; !IsRoot(node); node = entries_[node].parent) {
    const int32_t begin = entries_[node].depth * options_.block_tokens;
    if (begin + options_.block_tokens <= hit.start) return;
    if (entries_[node].snapshot < 0) continue;
    Snapshot& snapshot = snapshots_[entries_[node].snapshot];
    const int32_t reached = begin + CommonLength(snapshot.tail, prompt.subspan(begin, hit.tokens - begin));
    if (reached <= hit.start) continue;
    hit.start = reached;
    hit.snapshot = options_.first_snapshot + entries_[node].snapshot;
    snapshot.used = ++now_;
    return;
  }
}

PrefixCache::Node PrefixCache::Root(std::string_view scope) { return Handle(FindRoot(scope)); }

PrefixCache::Node PrefixCache::Extend(Node prefix, std::span<const int32_t> tokens, const Block& block) {
  YOIO_CHECK_EQ(static_cast<int32_t>(tokens.size()), options_.block_tokens);
  const int32_t parent = IndexOf(prefix);
  if (parent < 0) return prefix;
  const Child child = MakeChild(parent, tokens);
  const auto found = children_.find(child);
  if (found != children_.end()) return Handle(*found);

  const int32_t node = block.id();
  Entry& entry = entries_[node];
  YOIO_CHECK(!entry.live) << "block " << node << " holds other tokens";
  std::copy(tokens.begin(), tokens.end(), tokens_.get() + int64_t{node} * options_.block_tokens);
  entry.live = true;
  entry.hash = child.hash;
  entry.depth = entries_[parent].depth + 1;
  entry.block = blocks_.Keep(block, this);
  Link(parent, node);
  children_.insert(node);
  return Handle(node);
}

int32_t PrefixCache::TakeSnapshot(Node prefix, std::span<const int32_t> tail, std::span<const int32_t> busy) {
  int32_t owner = IndexOf(prefix);
  if (owner < 0 || snapshots_.empty()) return -1;
  if (tail.empty() && !IsRoot(owner)) {
    tail = TokensOf(owner);
    owner = entries_[owner].parent;
  }
  if (IsRoot(owner)) return -1;  // a block at most is replayed without it
  int32_t& index = entries_[owner].snapshot;
  if (index >= 0) {
    // Another one here would save part of a block. It is worth that when nobody loses by it.
    Snapshot& there = snapshots_[index];
    there.used = ++now_;
    const auto had = static_cast<int32_t>(there.tail.size());
    if (CommonLength(there.tail, tail) < had || static_cast<int32_t>(tail.size()) == had) return -1;
  } else {
    const int32_t recycled = RecycledSnapshot(busy);
    if (recycled < 0) return -1;
    index = recycled;
    snapshots_[index].owner = owner;
    ++num_snapshots_held_;
  }
  snapshots_[index].tail.assign(tail.begin(), tail.end());
  snapshots_[index].used = ++now_;
  return options_.first_snapshot + index;
}

// The one that is free, or least recently used; -1 when all are busy.
int32_t PrefixCache::RecycledSnapshot(std::span<const int32_t> busy) {
  int32_t oldest = -1;
  for (int32_t i = 0; i < static_cast<int32_t>(snapshots_.size()); ++i) {
    if (std::find(busy.begin(), busy.end(), options_.first_snapshot + i) != busy.end()) continue;
    if (oldest < 0 || snapshots_[i].used < snapshots_[oldest].used) oldest = i;
  }
  if (oldest >= 0 && snapshots_[oldest].owner >= 0) DropSnapshot(snapshots_[oldest].owner);
  return oldest;
}

void PrefixCache::DropSnapshot(int32_t node) {
  int32_t& index = entries_[node].snapshot;
  if (index < 0) return;
  snapshots_[index].owner = -1;
  snapshots_[index].used = 0;
  index = -1;
  --num_snapshots_held_;
}

bool PrefixCache::EvictBlock() {
  if (num_idle_ == 0) return false;
  if (!idle_leaves_.empty()) {
    Remove(idle_leaves_.begin()->second);
  } else {
    // Whoever holds what continues them has blocks of its own for the same tokens.
    RemoveWithChildren(first_idle_);
  }
  return true;
}

void PrefixCache::RemoveWithChildren(int32_t node) {
  const int32_t parent = entries_[node].parent;
  int32_t at = node;
  while (at != parent) {
    const int32_t child = entries_[at].first_child;
    if (child >= 0) {
      at = child;
      continue;
    }
    const int32_t above = entries_[at].parent;
    Remove(at);
    at = above;
  }
}

// Of a node without children.
void PrefixCache::Remove(int32_t node) {
  Entry& entry = entries_[node];
  DropSnapshot(node);
  if (entry.idle) OnShared(node);  // unlisted as if somebody held it
  children_.erase(node);
  Unlink(node);
  entry.live = false;
  ++entry.generation;
  blocks_.LetGo(std::move(entry.block));
}

void PrefixCache::Clear() {
  for (int32_t node = 0; node < blocks_.total(); ++node) {
    if (entries_[node].live) RemoveWithChildren(node);
  }
  for (int32_t root = blocks_.total(); root < static_cast<int32_t>(entries_.size()); ++root) {
    if (entries_[root].live) RemoveRoot(root);
  }
  childless_roots_.clear();
}

void PrefixCache::OnShared(int32_t id) {
  Entry& entry = entries_[id];
  if (entry.first_child < 0) idle_leaves_.erase({entry.used, id});
  (entry.previous_idle < 0 ? first_idle_ : entries_[entry.previous_idle].next_idle) = entry.next_idle;
  (entry.next_idle < 0 ? last_idle_ : entries_[entry.next_idle].previous_idle) = entry.previous_idle;
  entry.idle = false;
  --num_idle_;
}

void PrefixCache::OnAlone(int32_t id) {
  Entry& entry = entries_[id];
  entry.idle = true;
  entry.used = ++now_;
  entry.previous_idle = last_idle_;
  entry.next_idle = -1;
  (last_idle_ < 0 ? first_idle_ : entries_[last_idle_].next_idle) = id;
  last_idle_ = id;
  ++num_idle_;
  if (entry.first_child < 0) idle_leaves_.insert({entry.used, id});
}

void PrefixCache::Link(int32_t parent, int32_t child) {
  Entry& above = entries_[parent];
  Entry& entry = entries_[child];
  if (above.idle && above.first_child < 0) idle_leaves_.erase({above.used, parent});
  entry.parent = parent;
  entry.previous_sibling = -1;
  entry.next_sibling = above.first_child;
  if (above.first_child >= 0) entries_[above.first_child].previous_sibling = child;
  above.first_child = child;
}

void PrefixCache::Unlink(int32_t child) {
  const Entry& entry = entries_[child];
  Entry& above = entries_[entry.parent];
  const int32_t next = entry.next_sibling;
  (entry.previous_sibling < 0 ? above.first_child : entries_[entry.previous_sibling].next_sibling) = next;
  if (next >= 0) entries_[next].previous_sibling = entry.previous_sibling;
  if (above.first_child >= 0) return;
  if (above.idle) idle_leaves_.insert({above.used, entry.parent});
  if (IsRoot(entry.parent)) NoteChildless(entry.parent);
}

int32_t PrefixCache::FindRoot(std::string_view scope) {
  const absl::string_view name(scope.data(), scope.size());
  const auto found = roots_.find(name);
  if (found != roots_.end()) return found->second;
  if (free_roots_.empty()) {
    free_roots_.push_back(static_cast<int32_t>(entries_.size()));
    entries_.emplace_back();
    root_names_.emplace_back();
  }
  const int32_t root = free_roots_.back();
  free_roots_.pop_back();
  entries_[root].live = true;
  entries_[root].hash = absl::HashOf(name);
  root_names_[root - blocks_.total()] = std::string(scope);
  roots_.emplace(scope, root);
  NoteChildless(root);
  return root;
}

// Forgets the one that is childless for longest when there are many.
void PrefixCache::NoteChildless(int32_t root) {
  childless_roots_.push_back(Handle(root));
  if (childless_roots_.size() <= kMaxChildlessRoots) return;
  const int32_t oldest = IndexOf(childless_roots_.front());
  childless_roots_.pop_front();
  if (oldest >= 0 && entries_[oldest].first_child < 0) RemoveRoot(oldest);
}

void PrefixCache::RemoveRoot(int32_t root) {
  roots_.erase(root_names_[root - blocks_.total()]);
  entries_[root].live = false;
  ++entries_[root].generation;
  free_roots_.push_back(root);
}

PrefixCache::Node PrefixCache::Handle(int32_t index) const {
  return static_cast<Node>(uint64_t{entries_[index].generation} << 32 | static_cast<uint32_t>(index));
}

int32_t PrefixCache::IndexOf(Node node) const {
  const auto index = static_cast<int32_t>(node & 0xffffffff);
  const Entry& entry = entries_[index];
  return entry.live && entry.generation == static_cast<uint64_t>(node) >> 32 ? index : -1;
}

std::span<const int32_t> PrefixCache::TokensOf(int32_t index) const {
  return {tokens_.get() + int64_t{index} * options_.block_tokens, static_cast<size_t>(options_.block_tokens)};
}

PrefixCache::Child PrefixCache::MakeChild(int32_t parent, std::span<const int32_t> tokens) const {
  return {parent, tokens,
          absl::HashOf(entries_[parent].hash, absl::MakeConstSpan(tokens.data(), tokens.size()))};
}

bool PrefixCache::Matches(int32_t node, const Child& child) const {
  const std::span<const int32_t> tokens = TokensOf(node);
  return entries_[node].parent == child.parent && entries_[node].hash == child.hash &&
         std::equal(tokens.begin(), tokens.end(), child.tokens.begin());
}

}  // namespace yoio
