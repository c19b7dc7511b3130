// All metrics of a yoio-server.
#ifndef YOIO_SERVER_METRICS_SERVER_METRICS_H_
#define YOIO_SERVER_METRICS_SERVER_METRICS_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "base/mutex.h"
#include "engine/engine.h"
#include "server/log.h"
#include "server/metrics/call_metrics.h"
#include "server/metrics/exposition.h"
#include "server/metrics/process_metrics.h"
#include "server/trace/otlp_exporter.h"

namespace yoio {

// Counts calls as they end, and reads everything else when somebody asks. Thread-safe. Owned by Serve;
// outlives the calls.
class ServerMetrics {
 public:
  struct Options {
    std::string version;
    std::string model;                      // as it is served
    std::function<ExportCounts()> spans{};  // thread-safe; empty when nothing is traced
    const Logger* log = nullptr;            // outlives this; null: none
  };
  explicit ServerMetrics(Options options) : options_(std::move(options)) {}

  // To be told of every call.
  CallObserver& calls() { return calls_; }

  // Start-up has done so much of its present part.
  void NoteProgress(int64_t done, int64_t total);

  // Whom to ask, from now on; null before it has loaded, and before it goes away. Returns once nobody asks
  // the one before.
  void SetEngine(const Engine* engine);

  // The answer to a scrape. Waits for other scrapes, and for no more of the engine than a lock of its load.
  std::string Scrape(ExpositionFormat format) const;

 private:
  const Options options_;
  const ProcessMetrics process_;
  CallMetrics calls_;
  std::atomic<double> progress_{0};
  mutable Mutex mutex_;
  const Engine* engine_ ABSL_GUARDED_BY(mutex_) = nullptr;
};

}  // namespace yoio

#endif  // YOIO_SERVER_METRICS_SERVER_METRICS_H_
