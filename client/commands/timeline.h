// A profile as a picture.
#ifndef YOIO_CLIENT_COMMANDS_TIMELINE_H_
#define YOIO_CLIENT_COMMANDS_TIMELINE_H_

#include <string>

#include "absl/status/statusor.h"

namespace yoio {

// Draws what AdminService.Profile answered, a gzip-compressed Chrome trace, as SVG: a lane for the engine's
// plans and steps and one for each rank's phases, on one axis of time. Under the pointer a bar tells what it
// was and whom it was for. INVALID_ARGUMENT when `profile` is no such thing.
absl::StatusOr<std::string> TimelineSvg(const std::string& profile);

}  // namespace yoio

#endif  // YOIO_CLIENT_COMMANDS_TIMELINE_H_
