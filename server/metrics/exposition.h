// Metrics as text, for Prometheus.
#ifndef YOIO_SERVER_METRICS_EXPOSITION_H_
#define YOIO_SERVER_METRICS_EXPOSITION_H_

#include <array>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "engine/latency_histogram.h"
#include "server/metrics/families.h"

namespace yoio {

// The Prometheus text format 0.0.4, or OpenMetrics 1.0.0, which has exemplars too.
enum class ExpositionFormat : uint8_t { kText, kOpenMetrics };

// The one that the value of an HTTP header Accept prefers; kText when it takes anything, or is empty.
ExpositionFormat ChooseFormat(std::string_view accept);
std::string_view ContentType(ExpositionFormat format);

// One request behind a bucket of a histogram.
struct Exemplar {
  std::array<uint8_t, 16> trace{};  // all zeros: there is none
  double value = 0;                 // seconds
  double time = 0;                  // when it was seen, in seconds since the epoch
};
using Exemplars = std::array<Exemplar, LatencyHistogram::kBounds.size() + 1>;  // by bucket

// Writes families one after the other, each once. Not thread-safe.
class Exposition {
 public:
  explicit Exposition(ExpositionFormat format);

  // Begins a family; its samples follow.
  void Begin(const Family& family);
  // `labels` are values in the order of the family's names. No two samples of a family have the same.
  void Add(std::initializer_list<std::string_view> labels, double value);
  // `exemplars` may be null; the text format leaves them out.
  void Add(std::initializer_list<std::string_view> labels, const LatencyHistogram& histogram,
           const Exemplars* exemplars = nullptr);

  // A family of one sample without labels.
  template <typename Value>
  void AddFamily(const Family& family, const Value& value, const Exemplars* exemplars = nullptr) {
    Begin(family);
    if constexpr (std::is_same_v<Value, LatencyHistogram>) {
      Add({}, value, exemplars);
    } else {
      Add({}, static_cast<double>(value));
    }
  }

  std::string Finish() &&;

 private:
  // "name{label="value",le="0.1"} value"; no newline follows. `le` may be empty.
  void AppendSample(std::string_view suffix, std::initializer_list<std::string_view> labels,
                    std::string_view le, double value);
  void AppendExemplar(const Exemplar& exemplar);

  const ExpositionFormat format_;
  const std::vector<std::string> bounds_;  // of buckets; alike in both formats, so that no series changes
  const Family* family_ = nullptr;
  std::string text_;
};

}  // namespace yoio

#endif  // YOIO_SERVER_METRICS_EXPOSITION_H_
