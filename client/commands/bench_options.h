// The options of `yoio bench`.
#ifndef YOIO_CLIENT_COMMANDS_BENCH_OPTIONS_H_
#define YOIO_CLIENT_COMMANDS_BENCH_OPTIONS_H_

#include <CLI/CLI.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "client/load/runner.h"
#include "client/load/workload.h"

namespace yoio {

// Filled in by the parser; turned into what a Runner takes. Main thread only.
class BenchOptions {
 public:
  void AddTo(CLI::App& app);

  // What does not depend on the server. An error says which option is wrong and what was expected.
  absl::StatusOr<LoadOptions> Load() const;
  // Reads the trace file, if one is named. `model` is the one that will be asked.
  absl::StatusOr<WorkloadOptions> Workload(const v1::GetModelInfoResponse& model) const;

  // The rates to run one after another; empty without --sweep.
  absl::StatusOr<std::vector<double>> SweepRates() const;
  bool saturation() const { return saturation_; }
  bool has_deadline() const { return deadline_.has_value(); }
  bool poisson() const { return poisson_; }
  int connections() const { return connections_; }
  const std::string& plot() const { return plot_; }

 private:
  void AddLoadOptions(CLI::App& app);
  void AddRequestOptions(CLI::App& app);
  void AddInjectionOptions(CLI::App& app);
  void AddOutputOptions(CLI::App& app);
  absl::Status CheckLoad() const;

  std::optional<double> rate_, deadline_, drain_, target_ttft_, target_itl_, target_e2e_, temperature_;
  std::string ramp_, sweep_, plot_, trace_, shared_prefix_, priority_, model_;
  std::string cancel_, expire_, slow_reader_;
  std::string prompt_tokens_ = "512", output_tokens_ = "128";
  int concurrency_ = 0, connections_ = 2;
  int64_t requests_ = 0;
  double duration_ = 0, warm_up_ = 0;
  uint64_t seed_ = 1;
  bool poisson_ = false, saturation_ = false, text_ = false, bypass_cache_ = false;
};

}  // namespace yoio

#endif  // YOIO_CLIENT_COMMANDS_BENCH_OPTIONS_H_
