// AdminService, on a listener of its own.
#ifndef YOIO_SERVER_ADMIN_ADMIN_SERVER_H_
#define YOIO_SERVER_ADMIN_ADMIN_SERVER_H_

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "base/clock.h"
#include "server/address.h"
#include "server/call.h"
#include "server/log.h"
#include "server/tls.h"

namespace grpc {
class Server;
class Service;
}  // namespace grpc

namespace yoio {

class AnswerThread;

// What operators can do to this process.
struct AdminCore {
  const ServingCore& serving;
  Logger& log;
  // Starts a drain that waits so long for what runs; nullopt: as long as SIGTERM's. Called by any thread,
  // perhaps more than once; never blocks.
  std::function<void(std::optional<Duration> timeout)> drain;
  // Whether a drain has begun, whoever asked for it. Called by any thread; never blocks.
  std::function<bool()> draining;
};

// Serves AdminService from Start to destruction. Every call needs the token.
class AdminServer {
 public:
  struct Options {
    Address listen;
    std::string token;
    ServerTls* tls = nullptr;  // null: plaintext; outlives the server
  };
  // Errors as CheckCanBind (server/address.h). What `core` names outlives the server.
  static absl::StatusOr<std::unique_ptr<AdminServer>> Start(const AdminCore& core, const Options& options);
  ~AdminServer();

  // The address in use, with the port that port 0 became.
  const Address& address() const { return address_; }

 private:
  AdminServer();
  Address address_;
  std::unique_ptr<AnswerThread> answers_;  // outlives the calls
  std::unique_ptr<grpc::Service> service_;
  std::unique_ptr<grpc::Server> server_;
};

}  // namespace yoio

#endif  // YOIO_SERVER_ADMIN_ADMIN_SERVER_H_
