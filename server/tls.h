// TLS for the listeners of this process.
#ifndef YOIO_SERVER_TLS_H_
#define YOIO_SERVER_TLS_H_

#include <deque>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "base/mutex.h"
#include "server/reloaded.h"

struct grpc_server_credentials;

namespace yoio {

// Paths of PEM files.
struct TlsFiles {
  std::string certificate;  // with what leads up to its CA behind it
  std::string key;          // not encrypted
  std::string ca;           // whose certificates the other end may show; empty: it shows none

  bool empty() const { return certificate.empty() && key.empty() && ca.empty(); }
};

// What is in them.
struct TlsMaterial {
  std::string certificate;
  std::string key;
  std::string ca;
};

// Reads `files` and checks what would otherwise fail each handshake: NOT_FOUND or INVALID_ARGUMENT names the
// file, which holds no certificate or key, an expired certificate, or a key that is another's;
// PERMISSION_DENIED one that everybody may write to.
absl::StatusOr<TlsMaterial> ReadTls(const TlsFiles& files);

// The identity that servers show, and whom they let in, read again when the files change: new connections get
// the new certificate, those that are open stay. TLS 1.2 or later. Thread-safe.
class ServerTls {
 public:
  // Errors as ReadTls. `flag` names the files in log lines. `log` outlives this.
  static absl::StatusOr<std::unique_ptr<ServerTls>> Open(const std::string& flag, const TlsFiles& files,
                                                         const Logger& log,
                                                         Duration interval = FileWatch::kInterval);

  // For one gRPC server, which this outlives. With a CA the client needs a certificate. Whoever calls
  // releases them.
  grpc_server_credentials* MakeCredentials();

  // One server's: tells gRPC of a new certificate once.
  struct Feed {
    const Reloaded<TlsMaterial>& source;
    Mutex mutex;
    std::shared_ptr<const TlsMaterial> given ABSL_GUARDED_BY(mutex);
  };

 private:
  ServerTls(std::unique_ptr<Reloaded<TlsMaterial>> material, bool verifies_clients)
      : material_(std::move(material)), verifies_clients_(verifies_clients) {}

  const std::unique_ptr<Reloaded<TlsMaterial>> material_;
  const bool verifies_clients_;
  std::deque<Feed> feeds_;
};

}  // namespace yoio

#endif  // YOIO_SERVER_TLS_H_
