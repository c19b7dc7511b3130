#include "engine/comm/group_end.h"

#include <sys/eventfd.h>

#include <utility>

#include "base/check.h"

namespace yoio {

absl::StatusOr<std::unique_ptr<GroupEnd>> GroupEnd::Create() {
  Socket wake(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wake.is_open()) return absl::ResourceExhaustedError("no file is left for an eventfd");
  return std::unique_ptr<GroupEnd>(new GroupEnd(std::move(wake)));
}

void GroupEnd::End(absl::Status status) {
  YOIO_CHECK(!status.ok()) << "an end needs an error";
  MutexLock lock(mutex_);
  if (ended_.load()) return;
  status_ = std::move(status);
  ended_.store(true);
  YOIO_CHECK_EQ(eventfd_write(wake_.fd(), 1), 0);
}

absl::Status GroupEnd::status() const {
  if (!ended_.load()) return absl::OkStatus();
  MutexLock lock(mutex_);
  return status_;
}

}  // namespace yoio
