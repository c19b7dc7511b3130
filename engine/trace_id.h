// Where a request stands in a distributed trace. The engine only carries it.
#ifndef YOIO_ENGINE_TRACE_ID_H_
#define YOIO_ENGINE_TRACE_ID_H_

#include <array>
#include <cstdint>

namespace yoio {

// W3C Trace Context, level 1. All zeros: the request is in no trace.
struct TraceId {
  std::array<uint8_t, 16> trace{};
  std::array<uint8_t, 8> span{};  // of the server's own span for the request
  bool sampled = false;           // its spans will be exported, whatever comes of it

  bool valid() const { return trace != std::array<uint8_t, 16>{}; }
};

}  // namespace yoio

#endif  // YOIO_ENGINE_TRACE_ID_H_
