// How commands write results, tables and errors.
#ifndef YOIO_CLIENT_COMMANDS_REPORT_H_
#define YOIO_CLIENT_COMMANDS_REPORT_H_

#include <google/protobuf/message.h>

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace yoio {

// Writes an error to standard error: two lines, what happened and what to do. Line breaks inside either
// become spaces.
void PrintError(absl::string_view what, absl::string_view what_to_do);

// What to do about the failures that each listener has its own remedy for.
struct ListenerAdvice {
  const char* no_answer;
  const char* bad_credential;
};
extern const ListenerAdvice kDataListener;
extern const ListenerAdvice kAdminListener;

// Reports a failed call to `server` with advice for its reason, and returns the exit code for it. A call that
// somebody at this end cancelled is reported by its exit code alone.
int ReportFailedCall(const absl::Status& status, const std::string& server,
                     const ListenerAdvice& listener = kDataListener);

// Writes one message to standard output as one line of proto3 JSON with the field names of the .proto files.
void PrintJson(const google::protobuf::Message& message);

// Writes `text` to standard output at once.
void PrintNow(absl::string_view text);

// One line of a table: what, how much, and a remark that may be empty.
struct Row {
  std::string name, value, remark;
};

// Lays rows out in columns, one line each. Rows whose value is empty are left out.
std::string Columns(const std::vector<Row>& rows);

// 16384 -> "16,384".
std::string Grouped(int64_t number);

}  // namespace yoio

#endif  // YOIO_CLIENT_COMMANDS_REPORT_H_
