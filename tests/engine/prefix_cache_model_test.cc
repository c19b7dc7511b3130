// Random traces of the prefix cache against an oracle that knows what every block and ring holds.
#include <algorithm>
#include <map>
#include <random>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "engine/prefix_cache.h"
#include "gtest/gtest.h"

namespace yoio {
namespace {

using Tokens = std::vector<int32_t>;
using Key = std::pair<std::string, Tokens>;  // scope, and all tokens of a prefix

constexpr int32_t kBlock = 4;

// A scheduler's part: sequences that look up, compute, save their rings and end.
class Trace {
 public:
  Trace(uint64_t seed, const PrefixCacheOptions& options, int32_t num_blocks)
      : random_(seed),
        options_(options),
        pool_(num_blocks),
        cache_(options, pool_),
        rings_(options.num_snapshots) {}

  void Run(int steps) {
    for (int step = 0; step < steps && !testing::Test::HasFatalFailure(); ++step) {
      const int what = Draw(100);
      if (what < 25) Begin();
      if (what >= 25 && what < 75) Grow();
      if (what >= 75 && what < 90) End();
      if (what >= 90 && what < 98) Evict();
      if (what == 98 && Draw(20) == 0) Clear();
      Check();
    }
    sequences_.clear();
    Check();
    EXPECT_EQ(cache_.evictable() + pool_.free(), pool_.total()) << "only the cache holds blocks";
    while (cache_.EvictBlock()) {
    }
    EXPECT_EQ(pool_.free(), pool_.total());
    EXPECT_EQ(cache_.num_snapshots_held(), 0);
  }

  int hits() const { return hits_; }
  int snapshot_hits() const { return snapshot_hits_; }

 private:
  struct Running {
    Key key;                    // what it has computed
    std::vector<Block> blocks;  // the last one may be partly filled
    PrefixCache::Node node;     // of its whole blocks
  };
  struct Ring {
    bool known = false;
    Key key;
  };

  int Draw(int bound) { return static_cast<int>(random_() % bound); }

  // Few different tokens, so that prompts meet.
  Tokens DrawTokens(int count) {
    Tokens tokens(count);
    for (int32_t& token : tokens) token = Draw(20) == 0 ? Draw(2) : 0;
    return tokens;
  }

  bool MakeRoom() { return pool_.free() > 0 || cache_.EvictBlock(); }

  void Begin() {
    const Key prompt{Draw(4) == 0 ? "b" : "a", DrawTokens(Draw(40))};
    PrefixCache::Hit hit = cache_.Find(prompt.first, prompt.second);
    ASSERT_EQ(hit.tokens, static_cast<int32_t>(hit.blocks.size()) * kBlock);
    ASSERT_TRUE(hit.tokens == 0 || hit.tokens < static_cast<int32_t>(prompt.second.size()));
    Tokens prefix;
    for (const Block& block : hit.blocks) {
      const size_t end = prefix.size() + kBlock;
      prefix.assign(prompt.second.begin(), prompt.second.begin() + end);
      ASSERT_EQ(written_.at(block.id()), Key(prompt.first, prefix)) << "other tokens than the prompt's";
    }
    CheckStart(prompt, hit);
    hits_ += hit.tokens > 0;
    snapshot_hits_ += hit.snapshot >= 0;
    sequences_.push_back({{prompt.first, prefix}, std::move(hit.blocks), hit.node});
    for (size_t at = prefix.size(); at < prompt.second.size(); ++at)
      Append(sequences_.back(), prompt.second[at]);
  }

  // What is in the ring, or what a replay puts there, is all that the first exact token can look back on.
  void CheckStart(const Key& prompt, const PrefixCache::Hit& hit) {
    ASSERT_LE(hit.start, hit.tokens);
    if (options_.ring_tokens == 0) {
      ASSERT_EQ(hit.start, hit.tokens);
      ASSERT_EQ(hit.snapshot, -1);
      return;
    }
    ASSERT_GE(hit.start, std::max(0, hit.tokens - options_.replay_tokens)) << "replays more than it must";
    if (hit.snapshot < 0) {
      ASSERT_EQ(hit.start, std::max(0, hit.tokens - options_.replay_tokens));
      return;
    }
    const Ring& ring = rings_.at(hit.snapshot - options_.first_snapshot);
    ASSERT_TRUE(ring.known);
    ASSERT_EQ(ring.key.first, prompt.first);
    const auto stood = static_cast<int32_t>(ring.key.second.size());
    ASSERT_LE(hit.start, stood);
    ASSERT_GE(hit.start, stood - kBlock);
    ASSERT_TRUE(
        std::equal(prompt.second.begin(), prompt.second.begin() + hit.start, ring.key.second.begin()));
  }

  void Append(Running& sequence, int32_t token) {
    if (sequence.key.second.size() % kBlock == 0) {
      if (!MakeRoom()) return;
      sequence.blocks.push_back(pool_.Take());
    }
    Tokens& tokens = sequence.key.second;
    const Block& block = sequence.blocks.back();
    ASSERT_FALSE(block.shared()) << "I2: written while somebody else holds it";
    tokens.push_back(token);
    if (tokens.size() % kBlock != 0) return;
    written_[block.id()] = sequence.key;
    sequence.node = cache_.Extend(sequence.node, std::span(tokens).last(kBlock), block);
  }

  void Grow() {
    if (sequences_.empty()) return;
    Running& sequence = sequences_[Draw(static_cast<int>(sequences_.size()))];
    for (const int32_t token : DrawTokens(1 + Draw(9))) Append(sequence, token);
    if (Draw(3) == 0) Save(sequence);
  }

  void Save(const Running& sequence) {
    const Tokens& tokens = sequence.key.second;
    const int32_t ring = cache_.TakeSnapshot(sequence.node, std::span(tokens).last(tokens.size() % kBlock));
    if (ring < 0) return;
    rings_.at(ring - options_.first_snapshot) = {true, sequence.key};
  }

  void End() {
    if (sequences_.empty()) return;
    const auto it = sequences_.begin() + Draw(static_cast<int>(sequences_.size()));
    if (Draw(2) == 0) Save(*it);
    if (Draw(2) == 0) {
      while (!it->blocks.empty()) it->blocks.pop_back();
    }
    sequences_.erase(it);
  }

  void Evict() {
    const int32_t evictable = cache_.evictable(), free = pool_.free();
    ASSERT_EQ(cache_.EvictBlock(), evictable > 0);
    ASSERT_EQ(cache_.evictable() + pool_.free(), evictable + free);
    ASSERT_TRUE(evictable == 0 || pool_.free() > free);
  }

  void Clear() {
    cache_.Clear();
    ASSERT_EQ(cache_.evictable(), 0);
    ASSERT_EQ(cache_.num_blocks_held(), 0);
    ASSERT_EQ(cache_.num_snapshots_held(), 0);
  }

  // Every share is a sequence's or the cache's (I2).
  void Check() {
    std::map<int32_t, int32_t> held;
    for (const Running& sequence : sequences_) {
      for (const Block& block : sequence.blocks) ++held[block.id()];
    }
    int32_t kept = 0, idle = 0, free = 0;
    for (int32_t id = 0; id < pool_.total(); ++id) {
      const int32_t others = pool_.holders(id) - (held.contains(id) ? held[id] : 0);
      ASSERT_TRUE(others == 0 || others == 1) << "block " << id;
      kept += others;
      idle += others == 1 && !held.contains(id);
      free += pool_.holders(id) == 0;
    }
    ASSERT_EQ(cache_.num_blocks_held(), kept);
    ASSERT_EQ(cache_.evictable(), idle);
    ASSERT_EQ(pool_.free(), free);
    ASSERT_LE(cache_.num_snapshots_held(), options_.num_snapshots);
  }

  std::mt19937_64 random_;
  const PrefixCacheOptions options_;
  BlockPool pool_;
  PrefixCache cache_;
  std::map<int32_t, Key> written_;  // by block, once it is full
  std::vector<Ring> rings_;
  std::vector<Running> sequences_;
  int hits_ = 0, snapshot_hits_ = 0;
};

TEST(PrefixCacheModelTest, RandomTracesWithRings) {
  int hits = 0, snapshot_hits = 0;
  for (uint64_t seed = 0; seed < 40; ++seed) {
    SCOPED_TRACE(seed);
    const PrefixCacheOptions options{.block_tokens = kBlock,
                                     .first_snapshot = 7,
                                     .num_snapshots = static_cast<int32_t>(seed % 6),
                                     .ring_tokens = 8,
                                     .replay_tokens = 10};
    Trace trace(seed, options, 12 + static_cast<int32_t>(seed % 5) * 16);
    trace.Run(500);
    hits += trace.hits();
    snapshot_hits += trace.snapshot_hits();
  }
  EXPECT_GT(hits, 1000);
  EXPECT_GT(snapshot_hits, 300);
}

TEST(PrefixCacheModelTest, RandomTracesWithoutRings) {
  int hits = 0;
  for (uint64_t seed = 100; seed < 120; ++seed) {
    SCOPED_TRACE(seed);
    Trace trace(seed, {.block_tokens = kBlock}, 40);
    trace.Run(500);
    hits += trace.hits();
  }
  EXPECT_GT(hits, 500);
}

}  // namespace
}  // namespace yoio
