// The log line of a request.
#ifndef YOIO_SERVER_REQUEST_LOG_H_
#define YOIO_SERVER_REQUEST_LOG_H_

#include <string>

#include "server/call_record.h"
#include "server/log.h"
#include "server/place.h"

namespace yoio {

// Writes one line, "event":"request", with all that `record` tells. What is not known has no key.
void WriteRequestLine(const CallRecord& record, const Place& place, const std::string& model_revision,
                      const Logger& log);

}  // namespace yoio

#endif  // YOIO_SERVER_REQUEST_LOG_H_
