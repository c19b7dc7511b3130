#include "server/address.h"

#include <netdb.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace yoio {
namespace {

class Socket {
 public:
  explicit Socket(const addrinfo& info) : fd_(socket(info.ai_family, info.ai_socktype, info.ai_protocol)) {}
  ~Socket() {
    if (fd_ >= 0) close(fd_);
  }
  Socket(const Socket&) = delete;
  Socket& operator=(const Socket&) = delete;
  int fd() const { return fd_; }

 private:
  const int fd_;
};

absl::Status BindError(int error, const std::string& address) {
  const std::string text = absl::StrCat(address, ": ", std::strerror(error));
  if (error == EADDRINUSE) return absl::AlreadyExistsError(text);
  if (error == EACCES) return absl::PermissionDeniedError(text);
  return absl::InvalidArgumentError(text);
}

}  // namespace

std::string Address::ToString() const {
  return absl::StrContains(host, ':') ? absl::StrCat("[", host, "]:", port) : absl::StrCat(host, ":", port);
}

bool Address::IsLoopback() const {
  return host == "localhost" || host == "::1" || absl::StartsWith(host, "127.");
}

absl::StatusOr<Address> ParseAddress(const std::string& text) {
  const absl::Status error = absl::InvalidArgumentError("expected HOST:PORT, for instance 127.0.0.1:50051");
  const size_t colon = text.rfind(':');
  if (colon == std::string::npos || colon == 0) return error;
  Address address{.host = text.substr(0, colon)};
  if (!absl::SimpleAtoi(text.substr(colon + 1), &address.port)) return error;
  if (address.port < 0 || address.port > 65535) {
    return absl::InvalidArgumentError("expected a port from 0 to 65535");
  }
  if (address.host.front() == '[' && address.host.back() == ']') {
    address.host = address.host.substr(1, address.host.size() - 2);
  } else if (absl::StrContains(address.host, ':')) {
    return absl::InvalidArgumentError("expected an IPv6 address in brackets, for instance [::1]:50051");
  }
  if (address.host.empty()) return error;
  return address;
}

absl::Status CheckCanBind(const Address& address) {
  addrinfo hints{};
  hints.ai_flags = AI_PASSIVE;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  const int error = getaddrinfo(address.host.c_str(), absl::StrCat(address.port).c_str(), &hints, &found);
  if (error != 0) {
    return absl::InvalidArgumentError(absl::StrCat(address.ToString(), ": ", gai_strerror(error)));
  }
  const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> owner(found, freeaddrinfo);
  const Socket socket(*found);
  if (socket.fd() < 0) return BindError(errno, address.ToString());
  // A port whose last connections linger may be taken, as gRPC does; one that somebody listens on may not.
  const int on = 1;
  setsockopt(socket.fd(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  if (bind(socket.fd(), found->ai_addr, found->ai_addrlen) != 0 || listen(socket.fd(), 1) != 0) {
    return BindError(errno, address.ToString());
  }
  return absl::OkStatus();
}

}  // namespace yoio
