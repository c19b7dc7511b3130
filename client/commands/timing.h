// The timing of one request as a table.
#ifndef YOIO_CLIENT_COMMANDS_TIMING_H_
#define YOIO_CLIENT_COMMANDS_TIMING_H_

#include <string>

#include "yoio/v1/event.pb.h"

namespace yoio {

// What is known of one request when it has ended.
struct RequestRecord {
  std::string request_id;
  std::string endings;  // how each choice ended: "EOS, LENGTH"
  v1::Usage usage;
  v1::Timing timing;
};

// Aligned lines: request, tokens, and where the time went, with rates. Times that were not measured are left
// out.
std::string TimingBlock(const RequestRecord& record);

// "FINISH_REASON_EOS" -> "EOS".
std::string ShortName(v1::FinishReason reason);

}  // namespace yoio

#endif  // YOIO_CLIENT_COMMANDS_TIMING_H_
