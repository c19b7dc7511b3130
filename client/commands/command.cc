#include "client/commands/command.h"

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

void Command::AddTimeoutOption() {
  AddSecondsOption("--timeout", timeout_seconds_, "Fail when the call takes longer than this");
}

void Command::AddSecondsOption(const std::string& name, std::optional<double>& seconds,
                               const std::string& help) {
  // An unnamed validator, so that --help does not repeat its name beside the type.
  CLI::Validator positive = CLI::PositiveNumber;
  positive.description("");
  app_.add_option(name, seconds, help)->type_name("SECONDS")->check(positive)->group("Connection");
}

CallOptions Command::Options() const {
  CallOptions options;
  if (timeout_seconds_) options.timeout = FromSeconds(*timeout_seconds_);
  return options;
}

}  // namespace yoio
