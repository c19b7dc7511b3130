// The listening side of a `socket` group's meeting.
#ifndef YOIO_ENGINE_COMM_SOCKET_ACCEPTOR_H_
#define YOIO_ENGINE_COMM_SOCKET_ACCEPTOR_H_

#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "base/clock.h"
#include "engine/comm/socket.h"
#include "engine/comm/socket_hello.h"
#include "engine/comm/socket_join.h"

namespace yoio {

// "ranks 2, 4 have not come".
std::string HaveNotCome(const std::vector<int>& ranks);

// Takes in the connections of all higher ranks, in any order and however slowly they speak. Not thread-safe;
// `listener` and `peers` outlive it.
class SocketAcceptor {
 public:
  // `me`: the hello of this rank, which those of the others must fit.
  SocketAcceptor(const SocketHello& me, const Socket& listener, std::vector<SocketPeer>& peers)
      : me_(me), listener_(listener), peers_(peers) {}

  // Fills `peers` until every higher rank has both connections. `arrived` is called with the rank and its
  // address when its data connection has come. Errors as JoinSocketGroup.
  absl::Status Run(TimePoint deadline, absl::FunctionRef<void(int, const SocketAddress&)> arrived);

 private:
  // A connection whose hello has not come as a whole.
  struct Newcomer {
    Socket socket;
    SocketHello hello;
    size_t received = 0;
  };

  // The higher ranks of which there is no connection; once there are none, those that lack one of the two.
  std::vector<int> MissingRanks() const;
  // Sleeps until something happens. UNAVAILABLE when a rank that has come is gone.
  absl::Status Sleep(TimePoint deadline) const;
  void TakeNewcomers();
  // Reads on. True when the hello is there, or when the newcomer is to be forgotten: its socket is closed.
  bool Hear(Newcomer& newcomer);
  bool KnowsSecret(const SocketHello& hello) const;
  // What the group ends with because of somebody who knows the secret.
  absl::Status Check(const SocketHello& hello) const;
  Socket& Place(const SocketHello& hello) const;

  const SocketHello me_;
  const Socket& listener_;
  std::vector<SocketPeer>& peers_;
  std::vector<Newcomer> newcomers_;
  bool refused_a_stranger_ = false;
};

}  // namespace yoio

#endif  // YOIO_ENGINE_COMM_SOCKET_ACCEPTOR_H_
