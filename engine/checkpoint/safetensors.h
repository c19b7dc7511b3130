// Reading safetensors checkpoints: memory-mapped, sharded over files, every header checked before it is
// believed.
#ifndef YOIO_ENGINE_CHECKPOINT_SAFETENSORS_H_
#define YOIO_ENGINE_CHECKPOINT_SAFETENSORS_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "engine/files/mapped_file.h"

namespace yoio {

enum class TensorType { kF32, kBF16, kI32 };

// A view of one tensor inside a mapped file.
struct TensorView {
  TensorType type;
  std::vector<int64_t> shape;
  // Row-major, dense, little-endian. Valid while the Checkpoint lives. Alignment is not guaranteed.
  std::span<const std::byte> bytes;
};

// The tensors of a checkpoint by name. Immutable after opening, hence thread-safe.
class Checkpoint {
 public:
  // Opens DIR/model.safetensors.index.json and the files it names, or DIR/model.safetensors. Checks header
  // length and JSON, dtype, shape x dtype = bytes, offsets inside the file, no overlap, no duplicate name,
  // and that the index and the files agree; gaps between tensors are allowed. Errors name file and tensor:
  // NOT_FOUND, INVALID_ARGUMENT, DATA_LOSS for a truncated file.
  static absl::StatusOr<std::unique_ptr<Checkpoint>> Open(const std::string& dir);
  // One safetensors file.
  static absl::StatusOr<std::unique_ptr<Checkpoint>> OpenFile(const std::string& path);

  // NOT_FOUND naming the tensor; INVALID_ARGUMENT naming both shapes when `shape` is not the stored one.
  absl::StatusOr<TensorView> Get(std::string_view name, std::span<const int64_t> shape) const;
  absl::StatusOr<TensorView> Get(std::string_view name) const;

  // Sixteen hexadecimal digits, the same on every machine: a hash of all headers and of the first bytes of
  // every tensor. Tells revisions of a model apart; no protection against somebody who wants two to look
  // alike.
  std::string fingerprint() const;

 private:
  explicit Checkpoint(std::string origin);
  // Returns the names of the file's tensors.
  absl::StatusOr<std::vector<std::string>> AddFile(const std::string& path);

  const std::string origin_;  // the directory or file, for errors
  std::vector<MappedFile> files_;
  absl::flat_hash_map<std::string, TensorView> tensors_;
  uint64_t hash_;
};

}  // namespace yoio

#endif  // YOIO_ENGINE_CHECKPOINT_SAFETENSORS_H_
