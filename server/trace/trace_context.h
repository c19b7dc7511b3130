// What a caller says of the trace that its call belongs to, on the wire. Bytes of a stranger: whatever is not
// exactly as the formats have it counts as not sent.
#ifndef YOIO_SERVER_TRACE_TRACE_CONTEXT_H_
#define YOIO_SERVER_TRACE_TRACE_CONTEXT_H_

#include <grpcpp/support/string_ref.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "engine/trace_id.h"

namespace yoio {

// As gRPC has it: keys in lower case, those that end in "-bin" decoded.
using CallMetadata = std::multimap<grpc::string_ref, grpc::string_ref>;

inline constexpr size_t kMaxTraceStateBytes = 512;
inline constexpr size_t kMaxTraceStateMembers = 32;

// Where a call stands in its trace.
struct CallTrace {
  TraceId id;                            // its own span
  std::array<uint8_t, 8> parent_span{};  // of the caller; all zeros without one
  std::string trace_state;               // as the caller sent it; of a call that is sampled
};

// The caller's span, by `traceparent`; nullopt for none. The binary form of gRPC's own (`grpc-trace-bin`)
// cannot be read: gRPC for C++ keeps that key from services.
std::optional<TraceId> ReadTraceParent(const CallMetadata& metadata);
// What the caller hands on with it, by `tracestate`; may be empty.
std::string ReadTraceState(const CallMetadata& metadata);

// W3C traceparent, "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01". Of versions to come it reads
// what they must keep.
std::optional<TraceId> ParseTraceparent(std::string_view text);

// Whether `text` is a W3C tracestate within the limits above.
bool IsTraceState(std::string_view text);

}  // namespace yoio

#endif  // YOIO_SERVER_TRACE_TRACE_CONTEXT_H_
