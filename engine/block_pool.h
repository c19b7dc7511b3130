// Reference-counted handles on cache blocks. Ids only: the memory belongs to the workers.
#ifndef YOIO_ENGINE_BLOCK_POOL_H_
#define YOIO_ENGINE_BLOCK_POOL_H_

#include <cstdint>
#include <vector>

namespace yoio {

class BlockPool;

// Keeps blocks beyond their use, and learns when somebody else uses one of them. Not to be called back.
class BlockKeeper {
 public:
  virtual void OnShared(int32_t id) = 0;  // the block has a second holder now
  virtual void OnAlone(int32_t id) = 0;   // the keeper is its only holder again

 protected:
  ~BlockKeeper() = default;
};

// A share in one block. Copying takes another share; the last share to go returns the block to its pool.
// Engine thread only. The pool outlives it.
class Block {
 public:
  Block() = default;
  Block(const Block& other);
  Block(Block&& other) noexcept : pool_(other.pool_), id_(other.id_) { other.pool_ = nullptr; }
  Block& operator=(Block other) noexcept;
  ~Block();

  int32_t id() const { return id_; }
  // Only a block with a single holder may be written (invariant I2).
  bool shared() const;

 private:
  friend class BlockPool;
  Block(BlockPool* pool, int32_t id) : pool_(pool), id_(id) {}

  BlockPool* pool_ = nullptr;
  int32_t id_ = -1;
};

// Hands out the ids [0, count). Engine thread only.
class BlockPool {
 public:
  explicit BlockPool(int32_t count);
  ~BlockPool();
  BlockPool(const BlockPool&) = delete;
  BlockPool& operator=(const BlockPool&) = delete;

  int32_t total() const { return static_cast<int32_t>(counts_.size()); }
  int32_t free() const { return static_cast<int32_t>(free_.size()); }

  // Shares in a block.
  int32_t holders(int32_t id) const { return counts_[id]; }

  // free() must not be 0.
  Block Take();

  // The keeper's share in a block that somebody holds. Each block is kept once, all of them by one keeper,
  // which outlives what it keeps.
  Block Keep(const Block& block, BlockKeeper* keeper);
  // Ends that.
  void LetGo(Block kept);

 private:
  friend class Block;

  void Join(int32_t id);
  void Leave(int32_t id);

  BlockKeeper* keeper_ = nullptr;
  std::vector<int32_t> counts_;  // holders of each block
  std::vector<uint8_t> kept_;    // whether the keeper is one of them
  std::vector<int32_t> free_;    // ids, used as a stack
};

}  // namespace yoio

#endif  // YOIO_ENGINE_BLOCK_POOL_H_
