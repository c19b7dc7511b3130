// What the lives of a leader's and a follower's process have in common.
#ifndef YOIO_SERVER_PROCESS_H_
#define YOIO_SERVER_PROCESS_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/log.h"
#include "server/options.h"
#include "server/server.h"

namespace yoio {

enum ExitCode { kExitDrained = 0, kExitConfiguration = 1, kExitEngineFailed = 2, kExitKilled = 3 };

// Prints two lines to standard error, what happened and what to do, and returns `code`.
int Fail(int code, const std::string& what, const std::string& what_to_do);
int FailToListen(const std::string& flag, const absl::Status& status);
int FailToReadToken(const std::string& flag, const absl::Status& status);
int FailToReadTls(const std::string& flag, const absl::Status& status);
int FailToReadKeys(const absl::Status& status);
// For files of tracing that cannot be used.
int FailToTrace(const absl::Status& status);

// For an engine, or its part in this process, that has not come to be. Kinds of trouble that a process of
// several nodes can have besides are told apart by `nnodes`.
int FailToLoad(const absl::Status& status, int nnodes);

// Mistakes that need no loading to be found are told before minutes of it, not after.
std::optional<int> CheckModelDirectory(const EngineOptions& options);
std::optional<int> CheckListen(const std::string& flag, const std::optional<Address>& address);

// A warning when the listener at `address` speaks in plaintext with other machines: what that means.
void WarnOfPlaintext(const Address& address, const std::string& listener, const std::string& message,
                     const Logger& log);

// One line with every setting and its origin.
void LogSettings(const ParsedOptions& parsed, const Logger& log);

// `options` with start-up's reports going to `log`, which outlives them.
EngineOptions WithStartUpLog(EngineOptions options, const Logger& log);

// Ends at once, but for a log that nobody reads: another thread may be busy or stuck, so nothing is torn
// down.
[[noreturn]] void Leave(int code, LogLine&& line, const Logger& log);

// Runs `work` on a thread of its own, and meanwhile calls `on_signal` at each signal that asks for the end,
// and `on_look` every 20 ms.
void RunWatched(
    const std::function<void()>& work, const std::function<void()>& on_signal,
    const std::function<void()>& on_look = [] {});

}  // namespace yoio

#endif  // YOIO_SERVER_PROCESS_H_
