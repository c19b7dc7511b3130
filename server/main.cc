// yoio-server: see --help.
#include <grpc/support/log.h>
#include <unistd.h>

#include <cstdio>
#include <string>
#include <variant>
#include <vector>

#include "base/lock_checks.h"
#include "engine/engine.h"
#include "engine/follower.h"
#include "server/log.h"
#include "server/options.h"
#include "server/serve.h"
#include "server/shutdown_signal.h"

namespace {

// What gRPC logs with; its hook has no place for it. Set before that, and never destroyed.
const yoio::Logger* grpc_log = nullptr;

// gRPC's own messages, in the form of every other line. They hold no message contents.
void LogFromGrpc(gpr_log_func_args* args) {
  const bool error = args->severity == GPR_LOG_SEVERITY_ERROR;
  yoio::LogLine line(error ? yoio::LogLevel::kError : yoio::LogLevel::kInfo, "grpc");
  grpc_log->Write(std::move(line.With("message", args->message)));
}

}  // namespace

int main(int argc, char** argv) {
  yoio::SkipLockChecks();
  yoio::CatchShutdownSignals();
  const auto parsed =
      yoio::ParseOptions(std::vector<std::string>(argv + 1, argv + argc), yoio::ProcessEnvironment());
  if (const auto* exit = std::get_if<yoio::EarlyExit>(&parsed)) {
    std::fputs(exit->text.c_str(), exit->code == 0 ? stdout : stderr);
    return exit->code;
  }
  const auto& options = std::get<yoio::ParsedOptions>(parsed);
  auto& log = *new yoio::Logger;  // gRPC's threads use it to the end of the process
  grpc_log = &log;
  gpr_set_log_function(LogFromGrpc);
  if (options.options.dry_run) return yoio::DryRun(options.options, yoio::Engine::DryRun, log);
  if (options.options.engine.node_rank > 0) {
    const int code = yoio::ServeFollower(options, yoio::RunFollower, log);
    log.Flush();
    std::fflush(nullptr);
    _exit(code);  // ranks of a group that did not come about may be stuck
  }
  const int code = yoio::Serve(options, yoio::Engine::Create, log);
  log.Flush();
  return code;
}
