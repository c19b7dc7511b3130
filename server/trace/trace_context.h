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
inline constexpr int kMaxTraceStateMembers = 32;

// The span of a caller, and what it hands on.
struct TraceParent {
  TraceId id;
  std::string trace_state;  // as W3C tracestate; may be empty
};

// Where a call stands in its trace.
struct CallTrace {
  TraceId id;                            // its own span
  std::array<uint8_t, 8> parent_span{};  // of the caller; all zeros without one
  std::string trace_state;               // as the caller sent it
};

// What `metadata` says: `traceparent` with `tracestate`, else `grpc-trace-bin`; nullopt for neither.
std::optional<TraceParent> ReadTraceParent(const CallMetadata& metadata);

// W3C traceparent, "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01". Of versions to come it reads
// what they must keep.
std::optional<TraceId> ParseTraceparent(std::string_view text);
std::string FormatTraceparent(const TraceId& id);

// The same in gRPC's binary form, of version 0.
std::optional<TraceId> ParseGrpcTraceBin(std::string_view bytes);

// Whether `text` is a W3C tracestate within the limits above.
bool IsTraceState(std::string_view text);

}  // namespace yoio

#endif  // YOIO_SERVER_TRACE_TRACE_CONTEXT_H_
