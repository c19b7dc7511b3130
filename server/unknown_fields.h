// Finds what a request says that this build cannot read.
#ifndef YOIO_SERVER_UNKNOWN_FIELDS_H_
#define YOIO_SERVER_UNKNOWN_FIELDS_H_

#include "absl/status/status.h"

namespace google::protobuf {
class Message;
}

namespace yoio {

// UNIMPLEMENTED, naming up to eight of them, when `message` or any message inside it has fields or enum
// values that this build's schema does not have: "unknown field: sampling.#12". Costs one walk over the
// fields that are set; repeated scalars are not walked.
absl::Status CheckNothingUnknown(const google::protobuf::Message& message);

}  // namespace yoio

#endif  // YOIO_SERVER_UNKNOWN_FIELDS_H_
