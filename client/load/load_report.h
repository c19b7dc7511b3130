// Results of runs as text.
#ifndef YOIO_CLIENT_LOAD_LOAD_REPORT_H_
#define YOIO_CLIENT_LOAD_LOAD_REPORT_H_

#include <string>

#include "client/load/measurements.h"
#include "client/load/result.h"

namespace yoio {

// A table for people, several lines.
std::string ResultTable(const LoadResult& result);

// One line of JSON with a line break at its end; times in seconds.
std::string ResultJson(const LoadResult& result);

// A run of a sweep as one line, and the line of column names above them.
std::string SweepHeader();
std::string SweepRow(const LoadResult& result);

// What a run is doing: one line without a line break.
std::string ProgressLine(Duration elapsed, const Measurements::Progress& progress, int64_t live,
                         double tokens_per_second);

}  // namespace yoio

#endif  // YOIO_CLIENT_LOAD_LOAD_REPORT_H_
