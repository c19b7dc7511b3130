#include "engine/comm/socket.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <memory>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "base/status.h"

namespace yoio {
namespace {

constexpr int kSocketType = SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC;
constexpr int kBacklog = 128;

absl::Status Failure(const std::string& what, const char* why) {
  return absl::UnavailableError(absl::StrCat(what, ": ", why));
}

struct AddressesDeleter {
  void operator()(addrinfo* addresses) const { freeaddrinfo(addresses); }
};
using Addresses = std::unique_ptr<addrinfo, AddressesDeleter>;

absl::StatusOr<Addresses> Resolve(const SocketAddress& address) {
  addrinfo hints = {};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICSERV;
  addrinfo* found = nullptr;
  const int error = getaddrinfo(address.host.c_str(), address.service.c_str(), &hints, &found);
  if (error != 0) return Failure(ToString(address), gai_strerror(error));
  return Addresses(found);
}

// An abstract name: no file, gone with the socket.
socklen_t Fill(sockaddr_un& unix_address, const std::string& name) {
  YOIO_CHECK_LT(name.size(), sizeof(unix_address.sun_path));
  unix_address = {};
  unix_address.sun_family = AF_UNIX;
  std::copy(name.begin(), name.end(), unix_address.sun_path + 1);
  return offsetof(sockaddr_un, sun_path) + 1 + name.size();
}

std::string UnusedName() {
  char random[8];
  YOIO_CHECK_EQ(getrandom(random, sizeof(random), 0), static_cast<ssize_t>(sizeof(random)));
  return absl::StrCat("yoio-", absl::BytesToHexString({random, sizeof(random)}));
}

absl::Status ListenAt(const Socket& socket, const sockaddr* address, socklen_t length,
                      const std::string& what) {
  if (!socket.is_open() || bind(socket.fd(), address, length) != 0 || listen(socket.fd(), kBacklog) != 0) {
    return Failure(what, strerror(errno));
  }
  return absl::OkStatus();
}

// The parts of an address in digits. `get` is getsockname or getpeername.
SocketAddress Digits(const Socket& socket, int (*get)(int, sockaddr*, socklen_t*)) {
  sockaddr_storage storage = {};
  auto* address = reinterpret_cast<sockaddr*>(&storage);
  socklen_t length = sizeof(storage);
  char host[NI_MAXHOST] = "";
  char service[NI_MAXSERV] = "";
  if (get(socket.fd(), address, &length) != 0 || storage.ss_family == AF_UNIX) return {};
  getnameinfo(address, length, host, sizeof(host), service, sizeof(service), NI_NUMERICHOST | NI_NUMERICSERV);
  return {host, service};
}

// Collectives are short messages that somebody waits for.
void SendAtOnce(const Socket& socket) {
  const int on = 1;
  setsockopt(socket.fd(), IPPROTO_TCP, TCP_NODELAY, &on,
             sizeof(on));  // refused by a Unix socket, which has none
}

absl::Status Await(const Socket& socket, short events, TimePoint deadline) {
  pollfd file = {socket.fd(), events, 0};
  for (;;) {
    const int ready = poll(&file, 1, PollTimeout(deadline));
    if (ready > 0) return absl::OkStatus();
    if (ready == 0) return absl::DeadlineExceededError("no answer in time");
    if (errno != EINTR) return Failure("poll", strerror(errno));
  }
}

absl::StatusOr<Socket> ConnectTo(const sockaddr* address, socklen_t length, const std::string& what,
                                 TimePoint deadline) {
  Socket socket(::socket(address->sa_family, kSocketType, 0));
  if (!socket.is_open()) return Failure(what, strerror(errno));
  if (connect(socket.fd(), address, length) != 0) {
    if (errno != EINPROGRESS) return Failure(what, strerror(errno));
    if (!Await(socket, POLLOUT, deadline).ok()) return Failure(what, "no answer in time");
    int error = 0;
    socklen_t size = sizeof(error);
    getsockopt(socket.fd(), SOL_SOCKET, SO_ERROR, &error, &size);
    if (error != 0) return Failure(what, strerror(error));
  }
  SendAtOnce(socket);
  return socket;
}

SocketProgress Moved(ssize_t result) {
  if (result > 0) return {static_cast<size_t>(result), false};
  const bool slow = result < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR);
  return {0, !slow};
}

// Repeats `move` until it has moved `count` bytes.
template <typename Move>
absl::Status MoveAll(const Socket& socket, size_t count, short events, TimePoint deadline, const Move& move) {
  for (size_t moved = 0; moved < count;) {
    const SocketProgress progress = move(moved);
    if (progress.closed) return absl::UnavailableError("the connection was closed by the other side");
    moved += progress.bytes;
    if (progress.bytes == 0) YOIO_RETURN_IF_ERROR(Await(socket, events, deadline));
  }
  return absl::OkStatus();
}

}  // namespace

Socket::~Socket() {
  if (fd_ >= 0) close(fd_);
}

Socket::Socket(Socket&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}

Socket& Socket::operator=(Socket&& other) noexcept {
  std::swap(fd_, other.fd_);
  return *this;
}

std::string ToString(const SocketAddress& address) {
  if (address.host.empty()) return absl::StrCat("unix socket ", address.service);
  return absl::StrCat("host ", address.host, " port ", address.service);
}

absl::StatusOr<Listener> Listen(const std::string& host) {
  if (host.empty()) {
    Listener listener = {Socket(::socket(AF_UNIX, kSocketType, 0)), UnusedName()};
    sockaddr_un address;
    const socklen_t length = Fill(address, listener.service);
    YOIO_RETURN_IF_ERROR(ListenAt(listener.socket, reinterpret_cast<sockaddr*>(&address), length,
                                  ToString({host, listener.service})));
    return listener;
  }
  YOIO_ASSIGN_OR_RETURN(const Addresses addresses, Resolve({host, "0"}));
  absl::Status status;
  for (const addrinfo* address = addresses.get(); address != nullptr; address = address->ai_next) {
    Socket socket(::socket(address->ai_family, kSocketType, 0));
    status = ListenAt(socket, address->ai_addr, address->ai_addrlen, absl::StrCat("listening at ", host));
    if (!status.ok()) continue;
    std::string port = Digits(socket, getsockname).service;
    return Listener{std::move(socket), std::move(port)};
  }
  return status;
}

absl::StatusOr<Socket> Connect(const SocketAddress& address, TimePoint deadline) {
  const std::string what = absl::StrCat("cannot reach ", ToString(address));
  if (address.host.empty()) {
    sockaddr_un unix_address;
    const socklen_t length = Fill(unix_address, address.service);
    return ConnectTo(reinterpret_cast<sockaddr*>(&unix_address), length, what, deadline);
  }
  YOIO_ASSIGN_OR_RETURN(const Addresses addresses, Resolve(address));
  absl::Status status;
  for (const addrinfo* next = addresses.get(); next != nullptr; next = next->ai_next) {
    absl::StatusOr<Socket> socket = ConnectTo(next->ai_addr, next->ai_addrlen, what, deadline);
    if (socket.ok()) return socket;
    status = socket.status();
  }
  return status;
}

Socket Accept(const Socket& listener) {
  Socket socket(accept4(listener.fd(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
  if (socket.is_open()) SendAtOnce(socket);
  return socket;
}

std::string LocalHost(const Socket& socket) { return Digits(socket, getsockname).host; }
std::string PeerHost(const Socket& socket) { return Digits(socket, getpeername).host; }

SocketProgress Send(const Socket& socket, std::span<const std::byte> bytes) {
  return Moved(send(socket.fd(), bytes.data(), bytes.size(), MSG_NOSIGNAL));
}

SocketProgress Receive(const Socket& socket, std::span<std::byte> bytes) {
  return Moved(recv(socket.fd(), bytes.data(), bytes.size(), 0));
}

absl::Status SendAll(const Socket& socket, std::span<const std::byte> bytes, TimePoint deadline) {
  return MoveAll(socket, bytes.size(), POLLOUT, deadline,
                 [&](size_t moved) { return Send(socket, bytes.subspan(moved)); });
}

absl::Status ReceiveAll(const Socket& socket, std::span<std::byte> bytes, TimePoint deadline) {
  return MoveAll(socket, bytes.size(), POLLIN, deadline,
                 [&](size_t moved) { return Receive(socket, bytes.subspan(moved)); });
}

int PollTimeout(TimePoint deadline) {
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now()).count();
  return static_cast<int>(std::clamp<int64_t>(left, 0, 3'600'000));
}

}  // namespace yoio
