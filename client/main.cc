// `yoio`: the command-line client of a yoio server.
#include <stdlib.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/lock_checks.h"
#include "client/commands/command.h"
#include "client/commands/report.h"

namespace yoio {
namespace {

constexpr char kFooter[] = R"(Examples:
  yoio generate --file report.txt --max-tokens 200 --timing
  echo 'Once upon a time' | yoio generate --temperature 0
  yoio tokenize --count --file report.txt
  yoio generate --help

Exit codes: 0 done; 1 the server refused or failed the request; 2 the command
line or an input file is wrong; 3 no server answers, or it is not ready;
130 interrupted. Every error is two lines on standard error: what happened,
what to do.

Environment: YOIOCLI_SERVER, YOIOCLI_HEALTH_SERVER and YOIOCLI_ADMIN_SERVER
stand in for --server, YOIOCLI_TLS, YOIOCLI_TLS_CA, YOIOCLI_TLS_CERT,
YOIOCLI_TLS_KEY, YOIOCLI_API_KEY_FILE and YOIOCLI_ADMIN_TOKEN_FILE for the
options of those names. An API key or admin token is named by its file and never
given on the command line, where others could read it.)";

std::vector<std::unique_ptr<Command>> MakeCommands(CLI::App& program) {
  std::vector<std::unique_ptr<Command>> commands;
  commands.push_back(MakeGenerateCommand(program));
  commands.push_back(MakeScoreCommand(program));
  commands.push_back(MakeTokenizeCommand(program));
  commands.push_back(MakeInfoCommand(program));
  commands.push_back(MakeHealthCommand(program));
  commands.push_back(MakeBenchCommand(program));
  commands.push_back(MakeTraceCommand(program));
  commands.push_back(MakeDebugCommand(program));
  return commands;
}

int ReportParseError(const CLI::ParseError& error, const Command* chosen, const char* first_argument) {
  const std::string name = chosen == nullptr ? "yoio" : absl::StrCat("yoio ", chosen->app().get_name());
  const bool no_such_command =
      chosen == nullptr && first_argument != nullptr && std::string(first_argument).substr(0, 1) != "-";
  const std::string what =
      no_such_command ? absl::StrCat("there is no command ", first_argument) : std::string(error.what());
  PrintError(what, absl::StrCat("Run `", name, " --help` for what it takes."));
  return kUsage;
}

int Main(int argc, char** argv) {
  CLI::App program("Talks to a yoio server: generates text, scores it, asks how the server is.", "yoio");
  program.set_version_flag("--version", YOIO_VERSION);
  program.require_subcommand(1);
  program.get_formatter()->column_width(34);
  const std::vector<std::unique_ptr<Command>> commands = MakeCommands(program);
  program.footer(kFooter);  // after the commands, which would inherit it

  const auto chosen = [&]() -> Command* {
    for (const auto& command : commands) {
      if (command->app().parsed()) return command.get();
    }
    return nullptr;
  };
  try {
    program.parse(argc, argv);
  } catch (const CLI::Success& help) {
    return program.exit(help);
  } catch (const CLI::ParseError& error) {
    return ReportParseError(error, chosen(), argc > 1 ? argv[1] : nullptr);
  }
  return chosen()->Run();
}

}  // namespace
}  // namespace yoio

int main(int argc, char** argv) {
  yoio::SkipLockChecks();
  setenv("GRPC_VERBOSITY", "NONE", 0);  // errors are two lines: gRPC's own would come before them
  return yoio::Main(argc, argv);
}
