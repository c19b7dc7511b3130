// What the locks of libraries check.
#ifndef YOIO_BASE_LOCK_CHECKS_H_
#define YOIO_BASE_LOCK_CHECKS_H_

namespace yoio {

// Turns off the search for cycles of locks that Debian's build of Abseil makes whenever gRPC takes one: a
// tenth of the messages that a server can send. First thing in main. Tests leave it on.
void SkipLockChecks();

}  // namespace yoio

#endif  // YOIO_BASE_LOCK_CHECKS_H_
