// Where the time of a request's slowest steps went, drawn.
#ifndef YOIO_CLIENT_COMMANDS_STEP_PICTURE_H_
#define YOIO_CLIENT_COMMANDS_STEP_PICTURE_H_

#include <string>

#include "client/commands/terminal.h"
#include "yoio/v1/admin.pb.h"

namespace yoio {

inline constexpr int kSlowestSteps = 10;  // that commands show

// The `count` longest of the steps in `trace` in the order of time, and the one that ended the longest gap:
// for each rank a bar of its phases, all on one scale, and who shared the step. Empty without steps.
std::string SlowestSteps(const v1::RequestTrace& trace, int count, const Terminal& terminal);

}  // namespace yoio

#endif  // YOIO_CLIENT_COMMANDS_STEP_PICTURE_H_
