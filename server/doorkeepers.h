// What is read to tell who may come in.
#ifndef YOIO_SERVER_DOORKEEPERS_H_
#define YOIO_SERVER_DOORKEEPERS_H_

#include <memory>
#include <optional>
#include <string>

#include "server/api_keys.h"
#include "server/log.h"
#include "server/options.h"
#include "server/reloaded.h"
#include "server/tls.h"

namespace yoio {

// Outlives the listeners.
struct Doorkeepers {
  std::unique_ptr<ServerTls> tls;            // null: plaintext
  std::unique_ptr<ServerTls> followers_tls;  // likewise
  std::unique_ptr<Reloaded<ApiKeys>> keys;   // null: no keys are needed
  std::string follower_token;
  std::string admin_token;
};

// Reads what `options` name into `keepers`. The exit code when a flag of security cannot be enforced.
std::optional<int> OpenDoorkeepers(const ServerOptions& options, const Logger& log, Doorkeepers& keepers);

}  // namespace yoio

#endif  // YOIO_SERVER_DOORKEEPERS_H_
