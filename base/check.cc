#include "base/check.h"

#include <poll.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

namespace yoio::internal {

CheckFailure::CheckFailure(const char* file, int line, const char* condition) {
  stream_ << file << ":" << line << ": CHECK failed: " << condition << " ";
}

CheckFailure::~CheckFailure() {
  // A pipe whose reader has stalled must not keep a broken process alive.
  constexpr int kPatienceMs = 1000;
  pollfd file{.fd = STDERR_FILENO, .events = POLLOUT, .revents = 0};
  if (poll(&file, 1, kPatienceMs) != 0) {
    std::fprintf(stderr, "%s\n", stream_.str().c_str());
    std::fflush(stderr);
  }
  std::abort();
}

}  // namespace yoio::internal
