// How a follower gets to its leader.
#ifndef YOIO_SERVER_JOIN_LEADER_H_
#define YOIO_SERVER_JOIN_LEADER_H_

#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "base/clock.h"
#include "engine/pipe.h"
#include "server/address.h"
#include "server/log.h"
#include "server/tls.h"

namespace yoio {

struct JoinOptions {
  Address leader;
  std::string token;
  Duration timeout;                     // for the leader to be there
  std::optional<TlsMaterial> tls = {};  // nullopt: plaintext
};

// Blocks until the leader has let this process in, and tries again while there is no leader:
// DEADLINE_EXCEEDED says why there was none. What the leader refuses is final: UNAUTHENTICATED for another
// token, FAILED_PRECONDITION when all followers have come, UNIMPLEMENTED when no followers are taken at that
// address.
absl::StatusOr<std::unique_ptr<Pipe>> JoinLeader(const JoinOptions& options, const Logger& log);

}  // namespace yoio

#endif  // YOIO_SERVER_JOIN_LEADER_H_
