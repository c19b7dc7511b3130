// Files that are there whole or not at all.
#ifndef YOIO_SERVER_ATOMIC_FILE_H_
#define YOIO_SERVER_ATOMIC_FILE_H_

#include <string>
#include <string_view>

#include "absl/status/status.h"

namespace yoio {

// Writes beside `path`, then renames. Only the owner can read the file. UNAVAILABLE names what failed.
absl::Status WriteAtomically(const std::string& path, std::string_view contents);

}  // namespace yoio

#endif  // YOIO_SERVER_ATOMIC_FILE_H_
