// What an engine holds, as tables.
#ifndef YOIO_CLIENT_COMMANDS_STATE_PICTURE_H_
#define YOIO_CLIENT_COMMANDS_STATE_PICTURE_H_

#include <string>
#include <vector>

#include "yoio/v1/admin.pb.h"

namespace yoio {

// The engine, its ranks, and `requests`, the oldest first.
std::string StatePicture(const v1::EngineState& engine, std::vector<v1::RequestState> requests);

}  // namespace yoio

#endif  // YOIO_CLIENT_COMMANDS_STATE_PICTURE_H_
