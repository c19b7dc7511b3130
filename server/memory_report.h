// What --dry-run prints.
#ifndef YOIO_SERVER_MEMORY_REPORT_H_
#define YOIO_SERVER_MEMORY_REPORT_H_

#include <string>

#include "engine/engine.h"

namespace yoio {

// The plan as a table for people: one line per quantity, with units.
std::string FormatMemoryPlan(const MemoryPlan& plan);

}  // namespace yoio

#endif  // YOIO_SERVER_MEMORY_REPORT_H_
