#include "engine/errors.h"

#include "absl/strings/cord.h"

namespace yoio {
namespace {

constexpr char kPayloadUrl[] = "yoio.v1/reason";

// Abseil may have been built with a string_view of its own.
absl::string_view View(std::string_view text) { return {text.data(), text.size()}; }

}  // namespace

absl::Status WithReason(absl::StatusCode code, std::string_view reason, std::string_view message) {
  absl::Status status(code, View(message));
  status.SetPayload(kPayloadUrl, absl::Cord(View(reason)));
  return status;
}

std::string ReasonOf(const absl::Status& status) {
  const auto payload = status.GetPayload(kPayloadUrl);
  return payload.has_value() ? std::string(*payload) : std::string();
}

}  // namespace yoio
