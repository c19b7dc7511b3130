// Reasons that travel inside an absl::Status from the engine to the caller (docs: "Errors").
#ifndef YOIO_ENGINE_ERRORS_H_
#define YOIO_ENGINE_ERRORS_H_

#include <string>
#include <string_view>

#include "absl/status/status.h"

namespace yoio {

// Values of google.rpc.ErrorInfo.reason.
inline constexpr std::string_view kReasonPromptTooLong = "PROMPT_TOO_LONG";
inline constexpr std::string_view kReasonQueueFull = "QUEUE_FULL";
inline constexpr std::string_view kReasonTenantLimit = "TENANT_LIMIT";
inline constexpr std::string_view kReasonExpired = "EXPIRED";
inline constexpr std::string_view kReasonInfeasible = "INFEASIBLE";
inline constexpr std::string_view kReasonSlowReader = "SLOW_READER";
inline constexpr std::string_view kReasonStarting = "STARTING";
inline constexpr std::string_view kReasonDraining = "DRAINING";
inline constexpr std::string_view kReasonEngineFailed = "ENGINE_FAILED";

// A status with a reason attached.
absl::Status WithReason(absl::StatusCode code, std::string_view reason, std::string_view message);

// The reason attached to `status`, or "".
std::string ReasonOf(const absl::Status& status);

}  // namespace yoio

#endif  // YOIO_ENGINE_ERRORS_H_
