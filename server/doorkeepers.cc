#include "server/doorkeepers.h"

#include <utility>

#include "server/process.h"
#include "server/token.h"

namespace yoio {
namespace {

std::optional<int> OpenTls(const char* flag, const TlsFiles& files, const Logger& log,
                           std::unique_ptr<ServerTls>& tls) {
  if (files.empty()) return std::nullopt;
  auto opened = ServerTls::Open(flag, files, log);
  if (!opened.ok()) return FailToReadTls(flag, opened.status());
  tls = *std::move(opened);
  return std::nullopt;
}

std::optional<int> OpenToken(const char* flag, const std::string& path, std::string& token) {
  if (path.empty()) return std::nullopt;
  absl::StatusOr<std::string> read = ReadToken(path);
  if (!read.ok()) return FailToReadToken(flag, read.status());
  token = *std::move(read);
  return std::nullopt;
}

}  // namespace

std::optional<int> OpenDoorkeepers(const ServerOptions& options, const Logger& log, Doorkeepers& keepers) {
  if (const auto code = OpenTls("--tls-cert", options.tls, log, keepers.tls)) return code;
  if (const auto code = OpenTls("--followers-tls-cert", options.followers_tls, log, keepers.followers_tls)) {
    return code;
  }
  if (!options.api_keys.empty()) {
    const auto load = [path = options.api_keys, defaults = options.engine.tenant_limits] {
      return ApiKeys::Read(path, defaults);
    };
    auto keys = Reloaded<ApiKeys>::Open("--api-keys", {options.api_keys}, load, log);
    if (!keys.ok()) return FailToReadKeys(keys.status());
    keepers.keys = *std::move(keys);
  }
  if (const auto code =
          OpenToken("--follower-token-file", options.follower_token_file, keepers.follower_token)) {
    return code;
  }
  return OpenToken("--admin-token-file", options.admin_token_file, keepers.admin_token);
}

}  // namespace yoio
