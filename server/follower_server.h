// Where followers come in, at the leader's: a gRPC server of its own.
#ifndef YOIO_SERVER_FOLLOWER_SERVER_H_
#define YOIO_SERVER_FOLLOWER_SERVER_H_

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/clock.h"
#include "engine/pipe.h"
#include "server/address.h"
#include "server/log.h"
#include "server/tls.h"

namespace grpc {
class Server;
}  // namespace grpc

namespace yoio {

class FollowerService;

// Serves FollowerService from Start to destruction. Each call with the right token becomes a pipe for Accept;
// any other fails UNAUTHENTICATED and is logged. Thread-safe. Outlives its pipes.
class FollowerServer final : public Doorway {
 public:
  // In plaintext without `tls`. Errors as CheckCanBind (server/address.h). `log` and `tls` outlive the
  // server.
  static absl::StatusOr<std::unique_ptr<FollowerServer>> Start(const Address& listen, std::string token,
                                                               const Logger& log, ServerTls* tls = nullptr);
  ~FollowerServer() override;

  // The address in use, with the port that port 0 became.
  const Address& address() const { return address_; }

  absl::StatusOr<std::unique_ptr<Pipe>> Accept(TimePoint deadline) override;

  // From now on followers are refused with `reason` (not OK), those included whom nobody has accepted.
  void Refuse(absl::Status reason);

 private:
  FollowerServer();
  Address address_;
  std::unique_ptr<FollowerService> service_;
  std::unique_ptr<grpc::Server> server_;
};

}  // namespace yoio

#endif  // YOIO_SERVER_FOLLOWER_SERVER_H_
