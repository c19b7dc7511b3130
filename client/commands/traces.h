// Traces of requests, fetched from the admin listener.
#ifndef YOIO_CLIENT_COMMANDS_TRACES_H_
#define YOIO_CLIENT_COMMANDS_TRACES_H_

#include <vector>

#include "absl/status/statusor.h"
#include "client/admin_client.h"

namespace yoio {

// Those that `request` selects, in the order they came in; what came in several messages is put together.
absl::StatusOr<std::vector<v1::RequestTrace>> FetchTraces(AdminClient& client,
                                                          const v1::GetTracesRequest& request,
                                                          const CallOptions& options);

}  // namespace yoio

#endif  // YOIO_CLIENT_COMMANDS_TRACES_H_
