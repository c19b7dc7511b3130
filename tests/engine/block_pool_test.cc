#include "engine/block_pool.h"

#include <set>
#include <utility>
#include <vector>

#include "gtest/gtest.h"

namespace yoio {
namespace {

TEST(BlockPoolTest, HandsOutEveryIdOnce) {
  BlockPool pool(5);
  std::vector<Block> blocks;
  std::set<int32_t> ids;
  while (pool.free() > 0) {
    blocks.push_back(pool.Take());
    ids.insert(blocks.back().id());
  }
  EXPECT_EQ(ids, (std::set<int32_t>{0, 1, 2, 3, 4}));
  EXPECT_EQ(pool.total(), 5);
}

TEST(BlockPoolTest, LastShareReturnsTheBlock) {
  BlockPool pool(1);
  Block first = pool.Take();
  EXPECT_FALSE(first.shared());
  {
    Block second = first;
    EXPECT_EQ(second.id(), first.id());
    EXPECT_TRUE(first.shared());
    EXPECT_TRUE(second.shared());
    first = Block();
    EXPECT_FALSE(second.shared());
    EXPECT_EQ(pool.free(), 0);
  }
  EXPECT_EQ(pool.free(), 1);
}

TEST(BlockPoolTest, MovingKeepsTheNumberOfShares) {
  BlockPool pool(2);
  Block first = pool.Take();
  const int32_t id = first.id();
  Block second = std::move(first);
  EXPECT_EQ(second.id(), id);
  EXPECT_FALSE(second.shared());

  Block third = pool.Take();
  third = std::move(second);  // what it held before goes back
  EXPECT_EQ(third.id(), id);
  EXPECT_EQ(pool.free(), 1);
}

TEST(BlockPoolTest, AssigningABlockToItselfKeepsIt) {
  BlockPool pool(1);
  Block block = pool.Take();
  const Block& alias = block;
  block = alias;
  EXPECT_FALSE(block.shared());
  EXPECT_EQ(pool.free(), 0);
}

TEST(BlockPoolTest, ReturnedBlocksAreTakenAgain) {
  BlockPool pool(3);
  for (int round = 0; round < 10; ++round) {
    std::vector<Block> table;
    for (int i = 0; i < 3; ++i) table.push_back(pool.Take());
    std::vector<Block> fork(table.begin(), table.begin() + 2);
    table.clear();
    EXPECT_EQ(pool.free(), 1) << "the fork holds two";
    fork.clear();
    EXPECT_EQ(pool.free(), 3);
  }
}

TEST(BlockPoolDeathTest, TakingFromAnEmptyPool) {
  BlockPool pool(1);
  const Block block = pool.Take();
  EXPECT_DEATH(pool.Take(), "of 1 blocks");
}

TEST(BlockPoolDeathTest, BlocksMayNotOutliveTheirPool) {
  EXPECT_DEATH(
      {
        Block leaked;
        BlockPool pool(2);
        leaked = pool.Take();
      },
      "blocks outlive their pool");
}

}  // namespace
}  // namespace yoio
