// Whole files as strings.
#ifndef YOIO_CLIENT_READ_FILE_H_
#define YOIO_CLIENT_READ_FILE_H_

#include <cstdio>
#include <string>

#include "absl/status/statusor.h"

namespace yoio {

// Block until everything has been read. INVALID_ARGUMENT says what could not be read, and why.
absl::StatusOr<std::string> ReadFile(const std::string& path);
// `file` stays open; `name` is what an error calls it.
absl::StatusOr<std::string> ReadAll(std::FILE* file, const std::string& name);

}  // namespace yoio

#endif  // YOIO_CLIENT_READ_FILE_H_
