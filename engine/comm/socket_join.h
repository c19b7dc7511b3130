// How the ranks of a `socket` group find each other.
#ifndef YOIO_ENGINE_COMM_SOCKET_JOIN_H_
#define YOIO_ENGINE_COMM_SOCKET_JOIN_H_

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "base/clock.h"
#include "engine/comm/communicator.h"
#include "engine/comm/socket.h"

namespace yoio {

// Listens from the start. The ticket is a random secret and the port, or the name of the Unix socket.
class SocketRendezvous final : public Rendezvous {
 public:
  // As MakeRendezvous.
  static absl::StatusOr<std::unique_ptr<SocketRendezvous>> Create(const std::string& host);

  const std::string& ticket() const override { return ticket_; }

  // For rank 0, once: when it is done with the listener nobody finds the group any more.
  Listener TakeListener() { return std::move(listener_); }

 private:
  SocketRendezvous(Listener listener, std::string ticket)
      : listener_(std::move(listener)), ticket_(std::move(ticket)) {}

  Listener listener_;
  std::string ticket_;
};

// The connections between two ranks. What a rank says when it ends must not wait behind half a collective,
// therefore it has a way of its own; there a close without a word means that the rank is gone.
struct SocketPeer {
  Socket data;
  Socket last_words;
};

struct SocketMember {
  int rank = 0;
  int world = 1;
  std::string ticket;
  std::string host;  // of rank 0, as GroupOptions
  TimePoint deadline;
};

// Connects this rank with every other one: the peers by rank, this rank's place empty. `listener`: rank 0's,
// empty for the others. Blocks until all have come.
//
// Every connection begins with a hello to the lower rank, which listens. Rank 0 answers, again with each rank
// that comes, with the list of where the ranks listen; and once more when each has said that it is connected
// with all others, so that either all have met or none. Whoever does not know the secret is refused and the
// group waits on; it ends at once for all, with one status, when a rank with the secret has another version
// or world, comes twice or is gone, and when the deadline passes.
//
// Errors: INVALID_ARGUMENT for a ticket of another kind or another world; PERMISSION_DENIED for a wrong
// secret; FAILED_PRECONDITION for another version; ALREADY_EXISTS for a second rank of the same number;
// UNAVAILABLE when a rank is gone or not to be reached; DEADLINE_EXCEEDED naming the ranks that have not
// come.
absl::StatusOr<std::vector<SocketPeer>> JoinSocketGroup(const SocketMember& member, Listener listener);

}  // namespace yoio

#endif  // YOIO_ENGINE_COMM_SOCKET_JOIN_H_
