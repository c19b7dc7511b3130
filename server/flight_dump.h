// The flight recorder as a file, for when nobody can ask any more.
#ifndef YOIO_SERVER_FLIGHT_DUMP_H_
#define YOIO_SERVER_FLIGHT_DUMP_H_

#include <string>
#include <string_view>

#include "engine/engine.h"
#include "server/log.h"

namespace yoio {

// One JSON object a line, told apart by "kind": one "server", one "rank" for each, "request" in the order of
// arrival, "step" by number, whose members are [number of the request, tokens]. Times in microseconds. Empty
// for an engine without a recorder.
std::string RenderFlightDump(const Engine& engine, std::string_view reason);

// Writes it to `path`, or where that is empty to yoio-flight-PID.json in the directory for temporary files,
// and logs which file it is, or why there is none. Takes some tenths of a second.
void WriteFlightDump(const Engine& engine, const std::string& path, std::string_view reason,
                     const Logger& log);

}  // namespace yoio

#endif  // YOIO_SERVER_FLIGHT_DUMP_H_
