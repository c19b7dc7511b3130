#include "engine/block_pool.h"

#include <utility>

#include "base/check.h"

namespace yoio {

Block::Block(const Block& other) : pool_(other.pool_), id_(other.id_) {
  if (pool_ != nullptr) pool_->Join(id_);
}

Block& Block::operator=(Block other) noexcept {
  std::swap(pool_, other.pool_);
  std::swap(id_, other.id_);
  return *this;
}

Block::~Block() {
  if (pool_ != nullptr) pool_->Leave(id_);
}

bool Block::shared() const { return pool_ != nullptr && pool_->counts_[id_] > 1; }

BlockPool::BlockPool(int32_t count) : counts_(count, 0), kept_(count, 0) {
  free_.reserve(count);
  for (int32_t id = count - 1; id >= 0; --id) free_.push_back(id);
}

BlockPool::~BlockPool() { YOIO_CHECK_EQ(free(), total()) << "blocks outlive their pool"; }

Block BlockPool::Take() {
  YOIO_CHECK(!free_.empty()) << "of " << total() << " blocks";
  const int32_t id = free_.back();
  free_.pop_back();
  YOIO_CHECK_EQ(counts_[id], 0) << "block " << id << " is free and held";
  counts_[id] = 1;
  return Block(this, id);
}

Block BlockPool::Keep(const Block& block, BlockKeeper* keeper) {
  const int32_t id = block.id_;
  YOIO_CHECK(block.pool_ == this && kept_[id] == 0) << "block " << id << " is kept already";
  YOIO_CHECK(keeper_ == nullptr || keeper_ == keeper);
  Block share = block;
  keeper_ = keeper;
  kept_[id] = 1;
  return share;
}

void BlockPool::LetGo(Block kept) {
  YOIO_CHECK_EQ(kept_[kept.id_], 1) << "block " << kept.id_;
  kept_[kept.id_] = 0;
}

void BlockPool::Join(int32_t id) {
  if (++counts_[id] == 2 && kept_[id] != 0) keeper_->OnShared(id);
}

void BlockPool::Leave(int32_t id) {
  const int32_t left = --counts_[id];
  if (left == 0) free_.push_back(id);
  if (left == 1 && kept_[id] != 0) keeper_->OnAlone(id);
}

}  // namespace yoio
