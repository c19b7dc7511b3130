// HOST:PORT as flags give it.
#ifndef YOIO_SERVER_ADDRESS_H_
#define YOIO_SERVER_ADDRESS_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace yoio {

struct Address {
  std::string host;  // a name, an IPv4 address, or an IPv6 address without its brackets
  int port = 0;      // 0 = any

  // "127.0.0.1:50051", "[::1]:50051".
  std::string ToString() const;
  // Only this machine can reach it.
  bool IsLoopback() const;
};

// INVALID_ARGUMENT saying what was expected.
absl::StatusOr<Address> ParseAddress(const std::string& text);

// Binds `address` and lets go of it again: gRPC itself does not say why it could not. ALREADY_EXISTS when the
// port is in use, PERMISSION_DENIED for a port that needs rights, INVALID_ARGUMENT when the host is no
// address of this machine.
absl::Status CheckCanBind(const Address& address);

}  // namespace yoio

#endif  // YOIO_SERVER_ADDRESS_H_
