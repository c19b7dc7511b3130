// What a client shows of itself and whom it trusts, from files.
#ifndef YOIO_CLIENT_CREDENTIALS_H_
#define YOIO_CLIENT_CREDENTIALS_H_

#include <string>

#include "absl/status/status.h"
#include "client/channel.h"

namespace yoio {

// An empty name is a file that was not given.
struct CredentialFiles {
  bool tls = false;              // TLS even if no file below asks for it: with the system's CA certificates
  std::string ca;                // PEM; asks for TLS
  std::string certificate, key;  // PEM, both or neither; ask for TLS
  std::string api_key;           // or admin token: one line
};

// Reads the files into `options.tls` and `options.api_key`. INVALID_ARGUMENT names the file and what is wrong
// with it, and says nothing of what it holds. Blocks.
absl::Status ReadCredentials(const CredentialFiles& files, ChannelOptions& options);

}  // namespace yoio

#endif  // YOIO_CLIENT_CREDENTIALS_H_
