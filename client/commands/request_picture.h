// Where the time of requests went, drawn.
#ifndef YOIO_CLIENT_COMMANDS_REQUEST_PICTURE_H_
#define YOIO_CLIENT_COMMANDS_REQUEST_PICTURE_H_

#include <string>
#include <vector>

#include "client/commands/terminal.h"
#include "yoio/v1/admin.pb.h"

namespace yoio {

// One request on one axis of time: a bar for each phase, below it a shaded one for each cause of its waits,
// and then what is known in words. Its longest gap has a bar when `trace` holds the step that ended it.
// Fields that are absent are left out.
std::string RequestPicture(const v1::RequestTrace& trace, const Terminal& terminal);

// A line for each request with a bar of all its phases; on one axis, so that their lengths compare.
std::string RequestTable(const std::vector<v1::RequestTrace>& traces, const Terminal& terminal);

// "OK", "ABORTED, SLOW_READER", or "live".
std::string EndOf(const v1::RequestTrace& trace);

}  // namespace yoio

#endif  // YOIO_CLIENT_COMMANDS_REQUEST_PICTURE_H_
