#include "engine/prefix_cache.h"

#include <memory>
#include <numeric>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "gtest/gtest.h"

namespace yoio {
namespace {

using Tokens = std::vector<int32_t>;

constexpr int32_t kBlock = 4;
constexpr int32_t kFirstSnapshot = 100;

// `count` tokens that differ from those of any other seed from the first one on.
Tokens Draw(int32_t seed, int32_t count) {
  Tokens tokens(count);
  std::iota(tokens.begin(), tokens.end(), seed * 1'000'000);
  return tokens;
}

Tokens operator+(Tokens first, const Tokens& second) {
  first.insert(first.end(), second.begin(), second.end());
  return first;
}

// A cache, and sequences as a scheduler holds them.
class PrefixCacheTest : public testing::Test {
 protected:
  struct Held {
    std::vector<Block> blocks;
    PrefixCache::Node node;
  };

  void Make(int32_t num_blocks, PrefixCacheOptions options) {
    options.block_tokens = kBlock;
    options.first_snapshot = kFirstSnapshot;
    pool_ = std::make_unique<BlockPool>(num_blocks);
    cache_ = std::make_unique<PrefixCache>(options, *pool_);
  }
  // A model that needs no rings.
  void MakeWithoutRings(int32_t num_blocks = 32) { Make(num_blocks, {}); }
  // Six tokens of replay make a ring exact.
  void MakeWithRings(int32_t num_snapshots, int32_t replay_tokens = 6, int32_t num_blocks = 32) {
    Make(num_blocks, {.num_snapshots = num_snapshots, .ring_tokens = 8, .replay_tokens = replay_tokens});
  }
  ~PrefixCacheTest() override {
    cache_.reset();
    pool_.reset();
  }

  // Computes all of `tokens`, as a sequence that has looked nothing up.
  Held Compute(const Tokens& tokens, std::string_view scope = "t") {
    Held held{{}, cache_->Root(scope)};
    const std::span<const int32_t> all(tokens);
    for (size_t at = 0; at + kBlock <= all.size(); at += kBlock) {
      held.blocks.push_back(pool_->Take());
      held.node = cache_->Extend(held.node, all.subspan(at, kBlock), held.blocks.back());
    }
    return held;
  }
  // The whole blocks of `tokens`, left behind.
  void Leave(const Tokens& tokens, std::string_view scope = "t") { Compute(tokens, scope); }

  PrefixCache::Hit Find(const Tokens& prompt, std::string_view scope = "t") {
    return cache_->Find(scope, prompt);
  }
  int32_t Found(const Tokens& prompt, std::string_view scope = "t") { return Find(prompt, scope).tokens; }

  std::unique_ptr<BlockPool> pool_;
  std::unique_ptr<PrefixCache> cache_;
};

TEST_F(PrefixCacheTest, FindsWholeBlocksOfTheSameTokens) {
  MakeWithoutRings();
  const Tokens tokens = Draw(1, 12);
  const Held held = Compute(tokens);
  const PrefixCache::Hit hit = Find(tokens + Draw(2, 5));
  EXPECT_EQ(hit.tokens, 12);
  EXPECT_EQ(hit.start, 12);
  EXPECT_EQ(hit.snapshot, -1);
  EXPECT_EQ(hit.node, held.node);
  ASSERT_EQ(hit.blocks.size(), 3u);
  for (size_t i = 0; i < 3; ++i) EXPECT_EQ(hit.blocks[i].id(), held.blocks[i].id());
  EXPECT_EQ(Found(Draw(1, 11)), 8) << "a part of a block is none";
  EXPECT_EQ(Found(Draw(1, 7) + Draw(2, 9)), 4) << "one token of the second block differs";
}

TEST_F(PrefixCacheTest, LeavesTheLastPromptToken) {
  MakeWithoutRings();
  Leave(Draw(1, 12));
  EXPECT_EQ(Found(Draw(1, 12)), 8);
  EXPECT_EQ(Found(Draw(1, 12) + Tokens{7}), 12);
  EXPECT_EQ(Found(Draw(1, 4)), 0);
  EXPECT_EQ(Found({}), 0);
}

TEST_F(PrefixCacheTest, NoHitBeginsAtTheRoot) {
  MakeWithRings(2);
  Leave(Draw(1, 12));
  const PrefixCache::Hit hit = Find(Draw(2, 12));
  EXPECT_EQ(hit.tokens, 0);
  EXPECT_EQ(hit.start, 0);
  EXPECT_EQ(hit.snapshot, -1);
  EXPECT_TRUE(hit.blocks.empty());
  EXPECT_EQ(hit.node, cache_->Root("t"));
}

TEST_F(PrefixCacheTest, ScopesShareNothing) {
  MakeWithoutRings();
  Leave(Draw(1, 8), "t");
  EXPECT_EQ(Found(Draw(1, 9), "u"), 0);
  EXPECT_EQ(Found(Draw(1, 9), "t"), 8);
  Leave(Draw(1, 8), "u");
  EXPECT_EQ(cache_->num_blocks_held(), 4);
}

TEST_F(PrefixCacheTest, BranchesShareTheirTrunk) {
  MakeWithoutRings();
  const Tokens trunk = Draw(1, 8);
  Leave(trunk + Draw(2, 4));
  const PrefixCache::Hit hit = Find(trunk + Draw(3, 4));
  EXPECT_EQ(hit.tokens, 8);
  const Block own = pool_->Take();
  cache_->Extend(hit.node, Draw(3, 4), own);
  EXPECT_EQ(Found(trunk + Draw(3, 5)), 12);
  EXPECT_EQ(Found(trunk + Draw(2, 5)), 12);
  EXPECT_EQ(cache_->num_blocks_held(), 4);
}

TEST_F(PrefixCacheTest, OfTwoBlocksWithTheSameTokensTheFirstStays) {
  MakeWithoutRings();
  const Held first = Compute(Draw(1, 8));
  const Held second = Compute(Draw(1, 8));
  EXPECT_EQ(first.node, second.node);
  EXPECT_EQ(Find(Draw(1, 9)).blocks[1].id(), first.blocks[1].id());
  EXPECT_FALSE(second.blocks[1].shared());
}

TEST_F(PrefixCacheTest, CountsWhatNobodyElseHolds) {
  MakeWithoutRings(8);
  EXPECT_EQ(cache_->evictable(), 0);
  EXPECT_FALSE(cache_->EvictBlock());
  {
    const Held held = Compute(Draw(1, 12));
    EXPECT_EQ(cache_->evictable(), 0);
    EXPECT_FALSE(cache_->EvictBlock());
    EXPECT_EQ(pool_->holders(held.blocks[0].id()), 2);
  }
  EXPECT_EQ(cache_->evictable(), 3);
  EXPECT_EQ(pool_->free(), 5);
  {
    const PrefixCache::Hit hit = Find(Draw(1, 9));
    EXPECT_EQ(cache_->evictable(), 1) << "the hit holds two";
  }
  EXPECT_EQ(cache_->evictable(), 3);
  cache_->Clear();
  EXPECT_EQ(cache_->evictable(), 0);
  EXPECT_EQ(pool_->free(), 8);
}

TEST_F(PrefixCacheTest, TheLeastRecentlyUsedLeafGoesFirst) {
  MakeWithoutRings();
  Leave(Draw(1, 8));
  Leave(Draw(2, 8));
  Leave(Draw(3, 8));
  Found(Draw(1, 9));  // used again
  EXPECT_TRUE(cache_->EvictBlock());
  EXPECT_EQ(Found(Draw(2, 9)), 4) << "the end goes before the beginning";
  EXPECT_TRUE(cache_->EvictBlock());  // what was found just now is newer than 3
  EXPECT_EQ(Found(Draw(3, 9)), 4);
  EXPECT_EQ(Found(Draw(1, 9)), 8);
  while (cache_->EvictBlock()) {
  }
  EXPECT_EQ(pool_->free(), 32);
}

TEST_F(PrefixCacheTest, ATrunkInUseElsewhereOutlivesItsBranches) {
  MakeWithoutRings();
  const Tokens trunk = Draw(1, 8);
  Leave(trunk + Draw(2, 4));
  Leave(trunk + Draw(3, 4));
  Leave(Draw(4, 4));
  const PrefixCache::Hit hit = Find(trunk + Tokens{1});
  int evicted = 0;
  for (; cache_->EvictBlock(); ++evicted) {
  }
  EXPECT_EQ(evicted, 3);
  EXPECT_EQ(Found(trunk + Tokens{1}), 8);
}

// Two sequences compute the same tokens at once; the second goes on below blocks that it does not hold.
TEST_F(PrefixCacheTest, WhatNobodyHoldsGoesEvenBelowWhatSomebodyHolds) {
  MakeWithoutRings(8);
  Held second{{}, 0};
  {
    const Held first = Compute(Draw(1, 8));
    second = Compute(Draw(1, 8));
    second.blocks.push_back(pool_->Take());
    second.node = cache_->Extend(second.node, Draw(2, 4), second.blocks.back());
  }
  EXPECT_EQ(cache_->evictable(), 2);
  EXPECT_TRUE(cache_->EvictBlock());
  EXPECT_EQ(cache_->evictable() + pool_->free(), 5) << "three are the second sequence's";
  while (cache_->EvictBlock()) {
  }
  EXPECT_EQ(pool_->free(), 5);
  EXPECT_EQ(Found(Draw(1, 8) + Draw(2, 5)), 0);

  // The place where it stands is gone.
  second.blocks.push_back(pool_->Take());
  second.node = cache_->Extend(second.node, Draw(3, 4), second.blocks.back());
  EXPECT_EQ(cache_->num_blocks_held(), 0);
  EXPECT_EQ(cache_->TakeSnapshot(second.node, {}), -1);
}

TEST_F(PrefixCacheTest, ClearForgetsUnderRunningSequences) {
  MakeWithRings(2);
  Held held = Compute(Draw(1, 8));
  EXPECT_EQ(cache_->TakeSnapshot(held.node, {}), kFirstSnapshot);
  cache_->Clear();
  EXPECT_EQ(cache_->num_snapshots_held(), 0);
  EXPECT_EQ(cache_->num_blocks_held(), 0);
  EXPECT_FALSE(held.blocks[0].shared());
  held.blocks.push_back(pool_->Take());
  cache_->Extend(held.node, Draw(2, 4), held.blocks.back());
  EXPECT_EQ(Found(Draw(1, 8) + Draw(2, 5)), 0);
  Leave(Draw(1, 8));
  EXPECT_EQ(Found(Draw(1, 9)), 8);
}

TEST_F(PrefixCacheTest, WithoutSnapshotsItReplays) {
  MakeWithRings(/*num_snapshots=*/0);
  Leave(Draw(1, 16));
  const PrefixCache::Hit hit = Find(Draw(1, 17));
  EXPECT_EQ(hit.tokens, 16);
  EXPECT_EQ(hit.start, 10);
  EXPECT_EQ(hit.snapshot, -1);
  EXPECT_EQ(Find(Draw(1, 5)).start, 0) << "there is less than a whole replay";
  EXPECT_EQ(Found(Draw(1, 5)), 4);
  const Held held = Compute(Draw(1, 16));
  EXPECT_EQ(cache_->TakeSnapshot(held.node, {}), -1);
}

// The ring is a block longer than the window.
TEST_F(PrefixCacheTest, ASnapshotServesEveryPositionOfABlock) {
  MakeWithRings(4, /*replay_tokens=*/100);
  const Tokens tokens = Draw(1, 16);
  const Held held = Compute(tokens);
  EXPECT_EQ(cache_->TakeSnapshot(held.node, {}), kFirstSnapshot);
  const auto expect = [&](const Tokens& prompt, int32_t found, int32_t start, int32_t snapshot) {
    const PrefixCache::Hit hit = Find(prompt);
    EXPECT_EQ(hit.tokens, found);
    EXPECT_EQ(hit.start, start);
    EXPECT_EQ(hit.snapshot, snapshot);
  };
  expect(Draw(1, 17), 16, 16, kFirstSnapshot);
  expect(Draw(1, 13), 12, 12, kFirstSnapshot);
  expect(Draw(1, 12), 8, 0, -1);
}

TEST_F(PrefixCacheTest, ReplaysFromTheLastTokenThatASnapshotShares) {
  MakeWithRings(4, /*replay_tokens=*/100);
  const Tokens tokens = Draw(1, 24);
  const Held trunk = Compute(Draw(1, 8));
  EXPECT_EQ(cache_->TakeSnapshot(trunk.node, Tokens(tokens.begin() + 8, tokens.begin() + 10)),
            kFirstSnapshot);
  Leave(tokens);
  Leave(Draw(1, 9) + Draw(2, 11));
  EXPECT_EQ(Find(Draw(1, 25)).start, 10);
  EXPECT_EQ(Find(Draw(1, 25)).snapshot, kFirstSnapshot);
  EXPECT_EQ(Find(Draw(1, 9) + Draw(2, 12)).tokens, 20);
  EXPECT_EQ(Find(Draw(1, 9) + Draw(2, 12)).start, 9);
  EXPECT_EQ(Find(Draw(1, 9)).start, 8);
}

TEST_F(PrefixCacheTest, TakesTheShorterReplay) {
  MakeWithRings(4);
  const Held held = Compute(Draw(1, 12));
  EXPECT_EQ(cache_->TakeSnapshot(held.node, {}), kFirstSnapshot);
  Leave(Draw(1, 24));
  EXPECT_EQ(Find(Draw(1, 17)).start, 12);
  EXPECT_EQ(Find(Draw(1, 17)).snapshot, kFirstSnapshot);
  EXPECT_EQ(Find(Draw(1, 21)).start, 14);
  EXPECT_EQ(Find(Draw(1, 21)).snapshot, -1);
}

TEST_F(PrefixCacheTest, OneSnapshotAPlaceUnlessItReachesFurther) {
  MakeWithRings(4, /*replay_tokens=*/100);
  const Held held = Compute(Draw(1, 8));
  const Tokens next = Draw(2, 4);
  const auto take = [&](int count) {
    return cache_->TakeSnapshot(held.node, std::span(next).subspan(0, count));
  };
  EXPECT_EQ(take(2), kFirstSnapshot);
  EXPECT_EQ(take(2), -1);
  EXPECT_EQ(take(1), -1);
  EXPECT_EQ(cache_->TakeSnapshot(held.node, Draw(3, 3)), -1) << "would save part of a block at best";
  EXPECT_EQ(take(3), kFirstSnapshot) << "written again, further on";
  EXPECT_EQ(cache_->num_snapshots_held(), 1);
  EXPECT_EQ(cache_->TakeSnapshot(held.node, {}), kFirstSnapshot + 1);
  EXPECT_EQ(cache_->num_snapshots_held(), 2);
}

TEST_F(PrefixCacheTest, NoneForTheFirstBlock) {
  MakeWithRings(4);
  const Held held = Compute(Draw(1, 4));
  EXPECT_EQ(cache_->TakeSnapshot(cache_->Root("t"), Draw(1, 3)), -1);
  EXPECT_EQ(cache_->TakeSnapshot(held.node, {}), -1);
}

TEST_F(PrefixCacheTest, TheLeastRecentlyUsedSnapshotIsRecycled) {
  MakeWithRings(2, /*replay_tokens=*/100);
  const Held a = Compute(Draw(1, 8)), b = Compute(Draw(2, 8)), c = Compute(Draw(3, 8));
  EXPECT_EQ(cache_->TakeSnapshot(a.node, {}), kFirstSnapshot);
  EXPECT_EQ(cache_->TakeSnapshot(b.node, {}), kFirstSnapshot + 1);
  EXPECT_EQ(Find(Draw(1, 9)).snapshot, kFirstSnapshot);
  EXPECT_EQ(cache_->TakeSnapshot(c.node, {}), kFirstSnapshot + 1);
  EXPECT_EQ(Find(Draw(2, 9)).snapshot, -1);
  EXPECT_EQ(Find(Draw(1, 9)).snapshot, kFirstSnapshot);
  EXPECT_EQ(Find(Draw(3, 9)).snapshot, kFirstSnapshot + 1);
}

TEST_F(PrefixCacheTest, ABusySnapshotIsNotRecycled) {
  MakeWithRings(2, /*replay_tokens=*/100);
  const Held a = Compute(Draw(1, 8)), b = Compute(Draw(2, 8)), c = Compute(Draw(3, 8));
  EXPECT_EQ(cache_->TakeSnapshot(a.node, {}), kFirstSnapshot);
  EXPECT_EQ(cache_->TakeSnapshot(b.node, {}), kFirstSnapshot + 1);
  const std::vector<int32_t> first = {kFirstSnapshot}, both = {kFirstSnapshot + 1, kFirstSnapshot};
  EXPECT_EQ(cache_->TakeSnapshot(c.node, {}, both), -1);
  EXPECT_EQ(cache_->num_snapshots_held(), 2);
  EXPECT_EQ(cache_->TakeSnapshot(c.node, {}, first), kFirstSnapshot + 1);
  EXPECT_EQ(Find(Draw(1, 9)).snapshot, kFirstSnapshot);
}

// It may still be read from when its prefix has gone.
TEST_F(PrefixCacheTest, ABusySnapshotIsNotTakenWhenItIsFree) {
  MakeWithRings(1, /*replay_tokens=*/100);
  const Held b = Compute(Draw(2, 8));
  {
    const Held a = Compute(Draw(1, 8));
    EXPECT_EQ(cache_->TakeSnapshot(a.node, {}), kFirstSnapshot);
  }
  while (cache_->EvictBlock()) {
  }
  const std::vector<int32_t> busy = {kFirstSnapshot};
  EXPECT_EQ(cache_->TakeSnapshot(b.node, {}, busy), -1);
  EXPECT_EQ(cache_->TakeSnapshot(b.node, {}), kFirstSnapshot);
}

TEST_F(PrefixCacheTest, ASnapshotGoesWithItsPrefix) {
  MakeWithRings(2, /*replay_tokens=*/100);
  {
    const Held held = Compute(Draw(1, 12));
    EXPECT_EQ(cache_->TakeSnapshot(held.node, {}), kFirstSnapshot);
  }
  cache_->EvictBlock();
  EXPECT_EQ(Find(Draw(1, 9)).snapshot, kFirstSnapshot) << "it stands a block behind this prefix";
  cache_->EvictBlock();
  EXPECT_EQ(cache_->num_snapshots_held(), 0);
  EXPECT_EQ(Find(Draw(1, 9)).snapshot, -1);
}

// Scopes are chosen by callers: those that leave nothing behind must not pile up.
TEST_F(PrefixCacheTest, ScopesWithoutBlocksAreForgotten) {
  MakeWithoutRings();
  Leave(Draw(1, 8), "kept");
  const PrefixCache::Node first = cache_->Root("first");
  for (int i = 0; i < 20'000; ++i) Find(Draw(1, 9), "scope " + std::to_string(i));
  EXPECT_NE(cache_->Root("first"), first);
  EXPECT_EQ(Found(Draw(1, 9), "kept"), 8);
  const Block block = pool_->Take();
  cache_->Extend(first, Draw(1, 4), block);
  EXPECT_EQ(Found(Draw(1, 9), "first"), 0);
}

}  // namespace
}  // namespace yoio
