#include "base/lock_checks.h"

#include "absl/synchronization/mutex.h"

namespace yoio {

void SkipLockChecks() { absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore); }

}  // namespace yoio
