// Steps as a timeline that one can look at: https://ui.perfetto.dev, chrome://tracing.
#ifndef YOIO_SERVER_TIMELINE_H_
#define YOIO_SERVER_TIMELINE_H_

#include <string>
#include <vector>

#include "engine/flight_recorder.h"

namespace yoio {

// `steps`, by number, as a gzip-compressed JSON object in the Chrome trace event format. There is a process
// for the engine, with plans and steps, their members, and counters of what runs, waits and is free; and one
// for the ranks, a thread each, with the phases of every step. Lengths are measured; where a rank's step
// begins is not: it is drawn as late as the one before it, the step's submission and its end allow. Copies
// nothing but the ids of members, which it asks `recorder` for.
std::string RenderTimeline(const std::vector<StepRecord>& steps, const FlightRecorder& recorder);

}  // namespace yoio

#endif  // YOIO_SERVER_TIMELINE_H_
