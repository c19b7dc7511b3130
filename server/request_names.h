// The ids behind the numbers that the flight recorder gives to requests.
#ifndef YOIO_SERVER_REQUEST_NAMES_H_
#define YOIO_SERVER_REQUEST_NAMES_H_

#include <string>

#include "absl/container/flat_hash_map.h"
#include "engine/flight_recorder.h"

namespace yoio {

// Asks the recorder once for each request. Not thread-safe; the recorder outlives it.
class RequestNames {
 public:
  explicit RequestNames(const FlightRecorder& recorder) : recorder_(recorder) {}

  // Empty when the recorder knows the request no longer. Valid until the next call.
  const std::string& Of(RequestNumber request) {
    const auto [entry, is_new] = ids_.try_emplace(request);
    if (is_new) {
      if (auto record = recorder_.Request(request)) entry->second = std::move(record->id);
    }
    return entry->second;
  }

 private:
  const FlightRecorder& recorder_;
  absl::flat_hash_map<RequestNumber, std::string> ids_;
};

}  // namespace yoio

#endif  // YOIO_SERVER_REQUEST_NAMES_H_
