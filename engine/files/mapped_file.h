// A whole file, read-only, in memory.
#ifndef YOIO_ENGINE_FILES_MAPPED_FILE_H_
#define YOIO_ENGINE_FILES_MAPPED_FILE_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/statusor.h"

namespace yoio {

// Maps a file for as long as it lives. Movable; the bytes stay where they are. Immutable, hence thread-safe.
// Pages are read on first touch; a file that is cut short while it is mapped ends the process (SIGBUS).
class MappedFile {
 public:
  // NOT_FOUND without the file; INVALID_ARGUMENT if it is not a regular file that can be read, or is longer
  // than `max_bytes`. An empty file is mapped as no bytes.
  static absl::StatusOr<MappedFile> Open(const std::string& path, size_t max_bytes = SIZE_MAX);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept : bytes_(std::exchange(other.bytes_, {})) {}
  MappedFile& operator=(MappedFile&&) = delete;

  std::span<const std::byte> bytes() const { return bytes_; }
  std::string_view text() const { return {reinterpret_cast<const char*>(bytes_.data()), bytes_.size()}; }

 private:
  explicit MappedFile(std::span<const std::byte> bytes) : bytes_(bytes) {}

  std::span<const std::byte> bytes_;
};

}  // namespace yoio

#endif  // YOIO_ENGINE_FILES_MAPPED_FILE_H_
