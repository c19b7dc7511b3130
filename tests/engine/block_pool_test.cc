#include "engine/block_pool.h"

#include <set>
#include <string>
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

// What it has been told of its blocks, in order.
class Notes final : public BlockKeeper {
 public:
  void OnShared(int32_t id) override { notes_.emplace_back(id, "shared"); }
  void OnAlone(int32_t id) override { notes_.emplace_back(id, "alone"); }

  std::vector<std::pair<int32_t, std::string>> Take() { return std::exchange(notes_, {}); }

 private:
  std::vector<std::pair<int32_t, std::string>> notes_;
};

TEST(BlockPoolTest, AKeeperLearnsWhenItIsAlone) {
  using Told = std::vector<std::pair<int32_t, std::string>>;
  Notes keeper;
  BlockPool pool(2);
  Block held = pool.Take();
  const int32_t id = held.id();
  Block kept = pool.Keep(held, &keeper);
  EXPECT_EQ(pool.holders(id), 2);
  EXPECT_EQ(keeper.Take(), Told{}) << "somebody held it before";
  Block more = held;
  held = Block();
  EXPECT_EQ(keeper.Take(), Told{});
  more = Block();
  EXPECT_EQ(keeper.Take(), (Told{{id, "alone"}}));
  held = kept;
  EXPECT_EQ(keeper.Take(), (Told{{id, "shared"}}));
  pool.LetGo(std::move(kept));
  EXPECT_EQ(pool.holders(id), 1);
  held = Block();
  EXPECT_EQ(keeper.Take(), Told{}) << "it is nobody's now";
  EXPECT_EQ(pool.free(), 2);
}

TEST(BlockPoolDeathTest, KeepingABlockTwice) {
  Notes keeper;
  BlockPool pool(1);
  const Block held = pool.Take();
  Block kept = pool.Keep(held, &keeper);
  EXPECT_DEATH(pool.Keep(held, &keeper), "kept already");
  pool.LetGo(std::move(kept));
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
