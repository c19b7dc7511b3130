#include "engine/block_pool.h"

#include <utility>

#include "base/check.h"

namespace yoio {

Block::Block(const Block& other) : pool_(other.pool_), id_(other.id_) {
  if (pool_ != nullptr) ++pool_->counts_[id_];
}

Block& Block::operator=(Block other) noexcept {
  std::swap(pool_, other.pool_);
  std::swap(id_, other.id_);
  return *this;
}

Block::~Block() {
  if (pool_ != nullptr && --pool_->counts_[id_] == 0) pool_->free_.push_back(id_);
}

bool Block::shared() const { return pool_ != nullptr && pool_->counts_[id_] > 1; }

BlockPool::BlockPool(int32_t count) : counts_(count, 0) {
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

}  // namespace yoio
