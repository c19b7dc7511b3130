#include "client/commands/command.h"

#include "client/commands/report.h"

namespace yoio {

void Command::AddCommonOptions(const std::string& default_server, const std::string& variable) {
  server_ = default_server;
  app_.add_option("--server", server_, "Where the server listens")
      ->type_name("HOST:PORT")
      ->envname(variable)
      ->capture_default_str()
      ->group("Connection");
  app_.add_flag("--json", json_, "Print protocol messages as proto3 JSON, one a line")->group("Connection");
}

void Command::AddFileOption(const char* name, std::string& value, const char* variable, const char* help) {
  app_.add_option(name, value, help)->type_name("FILE")->envname(variable)->group("Connection");
}

void Command::AddTlsOptions() {
  app_.add_flag("--tls", credentials_.tls,
                "Use TLS, with the system's CA certificates unless --tls-ca is given")
      ->envname("YOIOCLI_TLS")
      ->group("Connection");
  AddFileOption("--tls-ca", credentials_.ca, "YOIOCLI_TLS_CA",
                "Use TLS; trust servers whose certificates these CAs signed");
  AddFileOption("--tls-cert", credentials_.certificate, "YOIOCLI_TLS_CERT",
                "Use TLS; show this client certificate");
  AddFileOption("--tls-key", credentials_.key, "YOIOCLI_TLS_KEY", "The private key of --tls-cert");
}

void Command::AddCredentialOptions() {
  AddTlsOptions();
  AddFileOption("--api-key-file", credentials_.api_key, "YOIOCLI_API_KEY_FILE",
                "Send the API key in this file");
}

void Command::AddAdminCredentialOptions() {
  AddTlsOptions();
  AddFileOption("--admin-token-file", credentials_.api_key, "YOIOCLI_ADMIN_TOKEN_FILE",
                "Send the admin token in this file, as the server's --admin-token-file holds it");
}

void Command::AddTimeoutOption() {
  AddSecondsOption("--timeout", timeout_seconds_, "Fail when the call takes longer than this");
}

CLI::Option* Command::AddSecondsOption(const std::string& name, std::optional<double>& seconds,
                                       const std::string& help) {
  // An unnamed validator, so that --help does not repeat its name beside the type.
  CLI::Validator positive = CLI::PositiveNumber;
  positive.description("");
  return app_.add_option(name, seconds, help)->type_name("SECONDS")->check(positive)->group("Connection");
}

CallOptions Command::Options() const {
  CallOptions options;
  if (timeout_seconds_) options.timeout = FromSeconds(*timeout_seconds_);
  return options;
}

std::optional<ChannelOptions> Command::Channel() const {
  ChannelOptions options;
  options.server = server_;
  if (const absl::Status status = ReadCredentials(credentials_, options); !status.ok()) {
    PrintError(status.message(),
               "Correct --tls-ca, --tls-cert, --tls-key, --api-key-file or --admin-token-file.");
    return std::nullopt;
  }
  return options;
}

}  // namespace yoio
