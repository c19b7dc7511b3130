// The commands of `yoio`, each in a file of its own, and what they share.
#ifndef YOIO_CLIENT_COMMANDS_COMMAND_H_
#define YOIO_CLIENT_COMMANDS_COMMAND_H_

#include <CLI/CLI.hpp>
#include <memory>
#include <optional>
#include <string>

#include "client/channel.h"
#include "client/client.h"
#include "client/credentials.h"

namespace yoio {

// Exit codes; `yoio --help` lists them.
enum ExitCode {
  kDone = 0,
  kFailed = 1,       // the server refused or failed the request
  kUsage = 2,        // the command line or an input file is wrong
  kUnavailable = 3,  // no server answers, or it is not ready
  kInterrupted = 130,
};

// One command: its options, filled in by the parser, and what it does. Main thread only. Owned by main.
class Command {
 public:
  virtual ~Command() = default;

  // The parser's view of this command, which tells whether it was chosen.
  const CLI::App& app() const { return app_; }

  // Does the work after parsing. Returns an exit code; an error has been reported on standard error.
  virtual int Run() = 0;

 protected:
  explicit Command(CLI::App& app) : app_(app) {}

  // Adds --server and --json; a command of the health listener has another default and variable.
  void AddCommonOptions(const std::string& default_server, const std::string& variable);
  // Adds --tls and its files, and --api-key-file: for a command of the data listener.
  void AddCredentialOptions();
  // Adds --tls and its files, and --admin-token-file: for a command of the admin listener.
  void AddAdminCredentialOptions();
  // Adds --timeout.
  void AddTimeoutOption();
  // Adds an option that takes a positive number of seconds.
  CLI::Option* AddSecondsOption(const std::string& name, std::optional<double>& seconds,
                                const std::string& help);

  CallOptions Options() const;
  // Whom to call, with what the credential options name read in. Absent when that failed, which has been
  // reported: the command ends with kUsage. Blocks.
  std::optional<ChannelOptions> Channel() const;

  CLI::App& app_;
  std::string server_;
  bool json_ = false;
  std::optional<double> timeout_seconds_;
  CredentialFiles credentials_;

 private:
  void AddTlsOptions();
  void AddFileOption(const char* name, std::string& value, const char* variable, const char* help);
};

inline constexpr char kDataServer[] = "127.0.0.1:50051";
inline constexpr char kHealthServer[] = "127.0.0.1:50052";
inline constexpr char kAdminServer[] = "127.0.0.1:50053";

// Each adds its command to `program`, which must outlive it.
std::unique_ptr<Command> MakeGenerateCommand(CLI::App& program);
std::unique_ptr<Command> MakeScoreCommand(CLI::App& program);
std::unique_ptr<Command> MakeTokenizeCommand(CLI::App& program);
std::unique_ptr<Command> MakeInfoCommand(CLI::App& program);
std::unique_ptr<Command> MakeHealthCommand(CLI::App& program);
std::unique_ptr<Command> MakeBenchCommand(CLI::App& program);
std::unique_ptr<Command> MakeTraceCommand(CLI::App& program);
std::unique_ptr<Command> MakeDebugCommand(CLI::App& program);

}  // namespace yoio

#endif  // YOIO_CLIENT_COMMANDS_COMMAND_H_
