#include "server/secret_file.h"

#include <sys/stat.h>

#include <cerrno>
#include <cstring>
#include <fstream>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace yoio {

absl::StatusOr<std::string> ReadSecretFile(const std::string& path, size_t max_bytes) {
  struct stat info {};
  if (stat(path.c_str(), &info) != 0) {
    return absl::NotFoundError(absl::StrCat(path, ": cannot be read: ", std::strerror(errno)));
  }
  if ((info.st_mode & S_IWOTH) != 0) {
    return absl::PermissionDeniedError(absl::StrCat(path, ": everybody may write to it (chmod o-w)"));
  }
  std::ifstream file(path, std::ios::binary);
  std::string contents(max_bytes + 1, '\0');
  file.read(contents.data(), static_cast<std::streamsize>(contents.size()));
  if (!file.eof() && file.fail()) return absl::NotFoundError(absl::StrCat(path, ": cannot be read"));
  contents.resize(static_cast<size_t>(file.gcount()));
  if (contents.size() > max_bytes) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": larger than ", max_bytes, " bytes"));
  }
  return contents;
}

}  // namespace yoio
