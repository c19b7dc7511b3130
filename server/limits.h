// Limits of the transport. GetServerInfo reports each of them.
#ifndef YOIO_SERVER_LIMITS_H_
#define YOIO_SERVER_LIMITS_H_

#include <cstddef>

namespace yoio {

// No response message is larger.
inline constexpr size_t kMaxResponseBytes = 1 << 20;
// Metadata of one call, trace context and credentials included.
inline constexpr int kMaxMetadataBytes = 16 << 10;
// Calls at the same time over one connection; further ones wait at the client.
inline constexpr int kMaxConcurrentStreams = 1024;

}  // namespace yoio

#endif  // YOIO_SERVER_LIMITS_H_
