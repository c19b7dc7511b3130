// Stream sockets, Unix or TCP: one owner each, never blocking, closed on exec.
#ifndef YOIO_ENGINE_COMM_SOCKET_H_
#define YOIO_ENGINE_COMM_SOCKET_H_

#include <cstddef>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/clock.h"

namespace yoio {

// A file descriptor with one owner. Movable; closed when destroyed.
class Socket {
 public:
  Socket() = default;
  explicit Socket(int fd) : fd_(fd) {}
  ~Socket();
  Socket(Socket&& other) noexcept;
  Socket& operator=(Socket&& other) noexcept;

  int fd() const { return fd_; }
  bool is_open() const { return fd_ >= 0; }

 private:
  int fd_ = -1;
};

// Where somebody listens: a TCP port, in digits, of a host; or, when the host is "", an abstract Unix name.
struct SocketAddress {
  std::string host;
  std::string service;
};

std::string ToString(const SocketAddress& address);

struct Listener {
  Socket socket;
  std::string service;
};

// Listens at once, at the first address of `host` that can be had and any free port; host "" as above.
// UNAVAILABLE with the system's own words.
absl::StatusOr<Listener> Listen(const std::string& host);

// UNAVAILABLE when nobody listens at `address` or it cannot be reached by `deadline`.
absl::StatusOr<Socket> Connect(const SocketAddress& address, TimePoint deadline);

// The next connection that waits at `listener`; one that is not open when there is none.
Socket Accept(const Socket& listener);

// The addresses of the two ends of a connection, in digits; "" for a Unix socket.
std::string LocalHost(const Socket& socket);
std::string PeerHost(const Socket& socket);

// What a socket moved: `bytes` may be 0 because the peer is slow. It is closed when the peer is gone or has
// closed its end.
struct SocketProgress {
  size_t bytes = 0;
  bool closed = false;
};

SocketProgress Send(const Socket& socket, std::span<const std::byte> bytes);
SocketProgress Receive(const Socket& socket, std::span<std::byte> bytes);

// All of `bytes`, waiting for the peer. UNAVAILABLE when it has closed, DEADLINE_EXCEEDED.
absl::Status SendAll(const Socket& socket, std::span<const std::byte> bytes, TimePoint deadline);
absl::Status ReceiveAll(const Socket& socket, std::span<std::byte> bytes, TimePoint deadline);

// Milliseconds until `deadline`, rounded up, as poll() takes them.
int PollTimeout(TimePoint deadline);

}  // namespace yoio

#endif  // YOIO_ENGINE_COMM_SOCKET_H_
