// Files that decide who is let in.
#ifndef YOIO_SERVER_SECRET_FILE_H_
#define YOIO_SERVER_SECRET_FILE_H_

#include <cstddef>
#include <string>

#include "absl/status/statusor.h"

namespace yoio {

// What is in `path`. NOT_FOUND when it cannot be read, PERMISSION_DENIED when everybody may write to it,
// INVALID_ARGUMENT when it is larger than `max_bytes`. All name the file and nothing of its contents.
absl::StatusOr<std::string> ReadSecretFile(const std::string& path, size_t max_bytes);

}  // namespace yoio

#endif  // YOIO_SERVER_SECRET_FILE_H_
