// Every setting of yoio-server: its flag, its twin in the environment, its default.
#ifndef YOIO_SERVER_OPTIONS_H_
#define YOIO_SERVER_OPTIONS_H_

#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "base/clock.h"
#include "engine/engine.h"
#include "server/address.h"
#include "server/tls.h"

namespace yoio {

struct ServerOptions {
  EngineOptions engine;
  std::vector<std::string> served_model_names;  // the name, then aliases; never empty once parsed
  Address listen{.host = "127.0.0.1", .port = 50051};
  std::optional<Address> health_listen = Address{.host = "127.0.0.1", .port = 50052};  // nullopt: off
  std::optional<Address> metrics_listen = Address{.host = "127.0.0.1", .port = 9464};  // likewise
  std::optional<Address> followers_listen;  // the leader's, when there are several nodes
  std::optional<Address> leader_address;    // a follower's
  std::string follower_token_file;          // when there are several nodes
  TlsFiles followers_tls;                   // both ends'; all or none
  std::optional<Address> admin_listen;      // nullopt: off
  std::string admin_token_file;             // with admin_listen
  TlsFiles tls;                             // of listen and admin_listen; `ca` is that of clients
  std::string api_keys;                     // a file; empty: calls need no key
  bool trust_tenant_header = false;
  bool reflection = true;
  bool allow_plaintext = false;
  Duration max_connection_age = std::chrono::minutes(10);
  Duration drain_delay{0};
  Duration drain_timeout = std::chrono::seconds(30);
  bool dry_run = false;
};

struct Setting {
  std::string flag;    // "--max-sequences"
  std::string value;   // "64"
  std::string origin;  // "default", "flag" or "environment"
};

struct ParsedOptions {
  ServerOptions options;
  std::vector<Setting> settings;  // every one, in the order of --help
};

// What to print instead of serving: help or version (code 0, for standard output), or what is wrong and what
// to do (code 1, two lines for standard error).
struct EarlyExit {
  int code;
  std::string text;
};

using Environment = std::vector<std::pair<std::string, std::string>>;

// Reads `args` (without the program's name) and the YOIO_* part of `environment`; where both set something,
// the flag wins. Variables in the shape that Kubernetes gives to service links (YOIO_PORT, YOIO_SERVICE_HOST,
// ...) are ignored; any other unknown YOIO_* is an error.
std::variant<ParsedOptions, EarlyExit> ParseOptions(const std::vector<std::string>& args,
                                                    const Environment& environment);

// This process's environment.
Environment ProcessEnvironment();

}  // namespace yoio

#endif  // YOIO_SERVER_OPTIONS_H_
