#include "server/atomic_file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include <cstdio>

#include "absl/strings/str_cat.h"

namespace yoio {
namespace {

absl::Status Failure(const std::string& path) {
  return absl::UnavailableError(absl::StrCat(path, ": ", strerror(errno)));
}

bool WriteAll(int file, std::string_view contents) {
  while (!contents.empty()) {
    const ssize_t written = write(file, contents.data(), contents.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return false;
    contents.remove_prefix(written);
  }
  return true;
}

}  // namespace

absl::Status WriteAtomically(const std::string& path, std::string_view contents) {
  const std::string beside = absl::StrCat(path, ".", getpid(), ".part");
  const int file = open(beside.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (file < 0) return Failure(beside);
  const bool written = WriteAll(file, contents);
  const absl::Status status = written ? absl::OkStatus() : Failure(beside);
  close(file);
  if (written && std::rename(beside.c_str(), path.c_str()) == 0) return absl::OkStatus();
  const absl::Status failure = written ? Failure(path) : status;
  unlink(beside.c_str());
  return failure;
}

}  // namespace yoio
