// A workload that was recorded.
#ifndef YOIO_CLIENT_LOAD_TRACE_H_
#define YOIO_CLIENT_LOAD_TRACE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "base/clock.h"

namespace yoio {

struct TraceEntry {
  Duration at{};  // from the start of the run
  int32_t prompt_tokens = 1, output_tokens = 1;
  int32_t prefix_tokens = 0;  // first tokens of the prompt, shared with other entries of the same `prefix`
  int64_t prefix = 0;
};

using Trace = std::vector<TraceEntry>;

// Reads the text of a trace file: one request a line, as JSON
//   {"time": 0.25, "prompt_tokens": 2048, "output_tokens": 64, "prefix": 7, "prefix_tokens": 1024}
// or as comma-separated values in this order; a first line of column names is skipped. `time` is in seconds;
// `prefix` and `prefix_tokens` may be left out. Requests that name the same prefix (a whole number) begin
// with the same tokens: `prefix_tokens` of them, or else half the prompt. Sorted by time. An error names the
// line.
absl::StatusOr<Trace> ParseTrace(const std::string& text);

}  // namespace yoio

#endif  // YOIO_CLIENT_LOAD_TRACE_H_
