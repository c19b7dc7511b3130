#include "client/read_file.h"

#include <cerrno>
#include <cstring>
#include <memory>

#include "absl/strings/str_cat.h"

namespace yoio {

absl::StatusOr<std::string> ReadFile(const std::string& path) {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "rb"), &std::fclose);
  if (file == nullptr) {
    return absl::InvalidArgumentError(absl::StrCat(path, " cannot be opened: ", std::strerror(errno)));
  }
  return ReadAll(file.get(), path);
}

absl::StatusOr<std::string> ReadAll(std::FILE* file, const std::string& name) {
  std::string content;
  char buffer[1 << 16];
  while (const size_t count = std::fread(buffer, 1, sizeof(buffer), file)) content.append(buffer, count);
  if (std::ferror(file)) {
    return absl::InvalidArgumentError(absl::StrCat(name, " cannot be read: ", std::strerror(errno)));
  }
  return content;
}

}  // namespace yoio
