#include "server/process.h"

#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <filesystem>
#include <system_error>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "server/shutdown_signal.h"

namespace yoio {
namespace {

constexpr Duration kProgressInterval = std::chrono::seconds(1);

// Whether the engine could not have its device, so that no other model or setting would help.
bool IsDeviceRefusal(const absl::Status& status) {
  return absl::IsUnimplemented(status) || absl::IsUnavailable(status) || absl::IsFailedPrecondition(status);
}

// Passes start-up progress on to the log, at most once a second.
std::function<void(std::string_view, int64_t, int64_t)> ProgressLogger(const Logger& log) {
  return [&log, last = TimePoint::min()](std::string_view what, int64_t done, int64_t total) mutable {
    const TimePoint now = Clock::now();
    if (done < total && last != TimePoint::min() && now - last < kProgressInterval) return;
    last = now;
    log.Write(std::move(
        LogLine(LogLevel::kInfo, "loading").With("what", what).With("done", done).With("total", total)));
  };
}

// One line that names the reason why a GPU is not used.
std::function<void(const absl::Status&)> FallbackLogger(const Logger& log) {
  return [&log](const absl::Status& reason) {
    log.Write(
        std::move(LogLine(LogLevel::kWarning, "device")
                      .With("device", "cpu")
                      .With("message", absl::StrCat("--device auto serves on the CPU: ", reason.message()))));
  };
}

}  // namespace

int Fail(int code, const std::string& what, const std::string& what_to_do) {
  std::fprintf(stderr, "yoio-server: %s\n%s\n", what.c_str(), what_to_do.c_str());
  return code;
}

int FailToListen(const std::string& flag, const absl::Status& status) {
  return Fail(kExitConfiguration, absl::StrCat(flag, " ", status.message()),
              absl::StrCat("Give ", flag, " another address; port 0 takes any that is free."));
}

int FailToReadToken(const std::string& flag, const absl::Status& status) {
  return Fail(kExitConfiguration, absl::StrCat(flag, " ", status.message()),
              "Make one with: openssl rand -hex 32 > FILE. Whoever is to be let in needs the same.");
}

int FailToReadTls(const std::string& flag, const absl::Status& status) {
  return Fail(kExitConfiguration, absl::StrCat(flag, " ", status.message()),
              "A certificate, its key and authorities are PEM files that only their owner may write to.");
}

int FailToReadKeys(const absl::Status& status) {
  return Fail(
      kExitConfiguration, absl::StrCat("--api-keys ", status.message()),
      R"(Expected [{"sha256": HEX, "tenant": NAME}, ...]; HEX is what printf %s KEY | sha256sum prints.)");
}

int FailToTrace(const absl::Status& status) {
  return Fail(kExitConfiguration, std::string(status.message()),
              "Files of OTEL_EXPORTER_OTLP_* are PEM; OTEL_SDK_DISABLED=true turns tracing off.");
}

int FailToLoad(const absl::Status& status, int nnodes) {
  const std::string message(status.message());
  if (nnodes > 1 && absl::IsDeadlineExceeded(status)) {
    return Fail(kExitConfiguration, "cannot bring the nodes together: " + message,
                "See what the other nodes say; --load-timeout is how long they may take.");
  }
  if (nnodes > 1 && IsDeviceRefusal(status)) {
    return Fail(
        kExitConfiguration, "cannot start: " + message,
        "All nodes need the same yoio-server, --model and --tensor-parallel-size, and devices for it.");
  }
  if (IsDeviceRefusal(status)) {
    return Fail(kExitConfiguration, "cannot use the GPU: " + message,
                "Give --device cpu to serve without it; --device auto takes whatever can be used.");
  }
  const bool memory = absl::IsResourceExhausted(status);
  return Fail(
      kExitConfiguration, "cannot load the model: " + message,
      memory ? "Lower --kv-cache-bytes, --max-model-len or --max-sequences; --dry-run prints the plan."
             : "Check --model and the file or flag named above; yoio-server --help lists every setting.");
}

std::optional<int> CheckModelDirectory(const EngineOptions& options) {
  std::error_code ignored;
  if (std::filesystem::is_directory(options.model_dir, ignored)) return std::nullopt;
  return Fail(kExitConfiguration, absl::StrCat("--model ", options.model_dir, ": no such directory"),
              "Give --model a directory that holds config.json, *.safetensors and tokenizer.json.");
}

std::optional<int> CheckListen(const std::string& flag, const std::optional<Address>& address) {
  if (!address) return std::nullopt;
  const absl::Status status = CheckCanBind(*address);
  if (status.ok()) return std::nullopt;
  return FailToListen(flag, status);
}

void LogSettings(const ParsedOptions& parsed, const Logger& log) {
  LogLine line(LogLevel::kInfo, "settings");
  for (const Setting& setting : parsed.settings) {
    const absl::string_view name = absl::StripPrefix(setting.flag, "--");
    line.With({name.data(), name.size()}, absl::StrCat(setting.value, " (", setting.origin, ")"));
  }
  log.Write(std::move(line));
}

EngineOptions WithStartUpLog(EngineOptions options, const Logger& log) {
  options.on_progress = ProgressLogger(log);
  options.on_fallback = FallbackLogger(log);
  return options;
}

void Leave(int code, LogLine&& line, const Logger& log) {
  log.Write(std::move(line));
  log.Flush();
  _exit(code);
}

void RunWatched(const std::function<void()>& work, const std::function<void()>& on_signal,
                const std::function<void()>& on_look) {
  std::atomic<bool> done{false};
  std::thread worker([&] {
    work();
    done = true;
  });
  while (!done) {
    if (PollShutdownSignal()) on_signal();
    on_look();
  }
  worker.join();
}

void WarnOfPlaintext(const Address& address, const std::string& listener, const std::string& message,
                     const Logger& log) {
  if (address.IsLoopback()) return;
  log.Write(std::move(
      LogLine(LogLevel::kWarning, "plaintext").With(listener, address.ToString()).With("message", message)));
}

}  // namespace yoio
