// How a client reaches a server.
#ifndef YOIO_CLIENT_CHANNEL_H_
#define YOIO_CLIENT_CHANNEL_H_

#include <grpcpp/channel.h>

#include <memory>
#include <optional>
#include <string>

namespace yoio {

// Whom a client trusts and what it shows of itself, as PEM text; client/credentials.h reads the files.
struct TlsOptions {
  std::string ca;           // certificates that may have signed the server's; empty: those of the system
  std::string certificate;  // this client's, with those that lead to its CA; empty: none
  std::string private_key;  // of `certificate`
};

struct ChannelOptions {
  std::string server;           // HOST:PORT, or any other name that gRPC resolves: "ipv4:A:P,B:P", "unix:..."
  bool own_connection = false;  // not shared with other channels of this process to the same server
  bool retries = true;          // as kServiceConfig says; false: every failure reaches the caller
  std::optional<TlsOptions> tls = std::nullopt;  // absent: plaintext
  std::string api_key = "";                      // sent with every call, in plaintext too; empty: none
};

// Does not connect yet. Follows kServiceConfig, sends keepalive pings while calls run, and does not use an
// HTTP proxy named in the environment. Thread-safe.
std::shared_ptr<grpc::Channel> OpenChannel(const ChannelOptions& options);

}  // namespace yoio

#endif  // YOIO_CLIENT_CHANNEL_H_
