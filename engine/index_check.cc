#include "engine/index_check.h"

#include <cstddef>
#include <string>

#include "absl/strings/str_cat.h"
#include "base/status.h"

namespace yoio {
namespace {

// FNV-1a over words.
class Hash {
 public:
  void Add(int32_t word) { value_ = (value_ ^ static_cast<uint32_t>(word)) * 0x100000001b3u; }
  uint64_t value() const { return value_; }

 private:
  uint64_t value_ = 0xcbf29ce484222325u;
};

}  // namespace

absl::StatusOr<std::unique_ptr<IndexCheck>> IndexCheck::Create(const Parts& parts) {
  auto check = std::unique_ptr<IndexCheck>(new IndexCheck(parts));
  YOIO_ASSIGN_OR_RETURN(check->hashes_,
                        parts.backend->Allocate((1 + parts.comm->world()) * sizeof(uint64_t)));
  return check;
}

absl::Status IndexCheck::Run(int64_t step, const IndexSet& index, int num_rows) {
  kernels::Backend& backend = *parts_.backend;
  kernels::Stream& stream = *parts_.stream;
  count_.resize(num_rows);
  slots_.resize(static_cast<size_t>(num_rows) * index.top_k);
  backend.CopyToHost(count_.data(), index.count, count_.size() * sizeof(int32_t), stream);
  backend.CopyToHost(slots_.data(), index.slots, slots_.size() * sizeof(int32_t), stream);
  YOIO_RETURN_IF_ERROR(backend.Synchronize(stream));
  Hash hash;
  for (int row = 0; row < num_rows; ++row) {
    hash.Add(count_[row]);
    const int32_t* slots = slots_.data() + static_cast<size_t>(row) * index.top_k;
    for (int i = 0; i < count_[row]; ++i) hash.Add(slots[i]);
  }

  const uint64_t mine = hash.value();
  std::vector<uint64_t> all(parts_.comm->world());
  std::byte* device = hashes_.As<std::byte>();
  const size_t all_bytes = all.size() * sizeof(uint64_t);
  backend.CopyToDevice(device, &mine, sizeof(mine), stream);
  YOIO_RETURN_IF_ERROR(
      parts_.comm->AllGather({device, sizeof(mine)}, {device + sizeof(mine), all_bytes}, stream));
  backend.CopyToHost(all.data(), device + sizeof(mine), all_bytes, stream);
  YOIO_RETURN_IF_ERROR(backend.Synchronize(stream));
  for (size_t rank = 1; rank < all.size(); ++rank) {
    if (all[rank] == all[0]) continue;
    return absl::InternalError(
        absl::StrCat("step ", step, ": rank ", rank, " holds another index than rank 0"));
  }
  return absl::OkStatus();
}

}  // namespace yoio
