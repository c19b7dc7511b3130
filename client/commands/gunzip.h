// Compressed files.
#ifndef YOIO_CLIENT_COMMANDS_GUNZIP_H_
#define YOIO_CLIENT_COMMANDS_GUNZIP_H_

#include <string>

#include "absl/status/statusor.h"

namespace yoio {

// What a gzip file holds. INVALID_ARGUMENT when it is damaged, cut short, or larger than 1 GiB.
absl::StatusOr<std::string> Gunzip(const std::string& compressed);

}  // namespace yoio

#endif  // YOIO_CLIENT_COMMANDS_GUNZIP_H_
