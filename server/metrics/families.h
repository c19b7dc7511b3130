// Every family of metrics that yoio-server exports. docs/operations.md, "Metrics", says how to read them;
// helm/yoio/files holds the dashboard and the alerts on them.
#ifndef YOIO_SERVER_METRICS_FAMILIES_H_
#define YOIO_SERVER_METRICS_FAMILIES_H_

#include <array>
#include <cstdint>
#include <string_view>

namespace yoio {

enum class MetricType : uint8_t { kCounter, kGauge, kHistogram, kInfo };

inline constexpr size_t kMaxLabels = 5;

// Names end in their unit (seconds, bytes or ratio) where there is one, counters in _total after that, infos
// in _info. Values of labels come from closed lists, none from callers, so that the number of series is
// bounded whatever callers do.
struct Family {
  std::string_view name;
  MetricType type;
  std::array<std::string_view, kMaxLabels> labels;  // the first empty one ends them
  std::string_view help;                            // one line, without a backslash
};

// What it says of time is of requests that have ended, unless it says otherwise.
namespace families {

using enum MetricType;

// Now.
inline constexpr Family kEngineHealthy{
    "yoio_engine_healthy",
    kGauge,
    {},
    "1 while the engine can serve; 0 while it loads, or once it has failed."};
inline constexpr Family kRequestsRunning{
    "yoio_requests_running", kGauge, {}, "Requests that have been scheduled and have not ended."};
inline constexpr Family kRequestsWaiting{
    "yoio_requests_waiting", kGauge, {}, "Requests that have never been scheduled: the queue."};
inline constexpr Family kWaitingTokens{
    "yoio_waiting_tokens", kGauge, {}, "Prompt tokens of the requests that wait."};
inline constexpr Family kCacheUsage{
    "yoio_cache_usage_ratio",
    kGauge,
    {"group"},
    "global: cache blocks that requests hold, of all; those that only the prefix cache holds count as free. "
    "window: places of sequences that are taken, of --max-sequences."};
inline constexpr Family kCacheBlocks{
    "yoio_cache_blocks",
    kGauge,
    {"state"},
    "Blocks of the global group. used: requests hold them. cached: free, but they hold something for later "
    "prompts. free: the others."};

// Tokens and steps since the start.
inline constexpr Family kPromptTokens{
    "yoio_prompt_tokens_total", kCounter, {}, "Tokens of prompts that have been computed or found cached."};
inline constexpr Family kCachedTokens{
    "yoio_cached_tokens_total", kCounter, {}, "Of them, those that were found in the prefix cache."};
inline constexpr Family kGeneratedTokens{
    "yoio_generated_tokens_total", kCounter, {}, "Tokens that have been generated."};
inline constexpr Family kPreemptions{
    "yoio_preemptions_total", kCounter, {}, "How often a running request gave way to others."};
inline constexpr Family kSteps{"yoio_steps_total", kCounter, {}, "Steps of the engine."};
inline constexpr Family kStepTime{
    "yoio_step_seconds",
    kHistogram,
    {"phase"},
    "A step, from when the ranks were free for it to its result (total); what the scheduler took to plan it "
    "(plan); the phases of rank 0, and what it waited in collectives meanwhile (comm_wait)."};
inline constexpr Family kInterToken{
    "yoio_inter_token_latency_seconds",
    kHistogram,
    {},
    "Between two steps that gave a request tokens, also of requests that still run."};

// Calls that have ended.
inline constexpr Family kRequests{"yoio_requests_total",
                                  kCounter,
                                  {"code", "finish_reason"},
                                  "Requests that have ended, by gRPC code and what ended their output."};
inline constexpr Family kRefusals{
    "yoio_refusals_total", kCounter, {"reason"}, "Requests that were refused before they were accepted."};
inline constexpr Family kFailures{
    "yoio_failures_total", kCounter, {"reason"}, "Requests that failed after they were accepted."};
inline constexpr Family kTimeToFirstToken{"yoio_time_to_first_token_seconds",
                                          kHistogram,
                                          {"prompt_class"},
                                          "From a request's arrival to its first token."};
inline constexpr Family kQueueTime{"yoio_queue_seconds",
                                   kHistogram,
                                   {"prompt_class"},
                                   "From when a request was tokenized to its first step."};
inline constexpr Family kPrefillTime{
    "yoio_prefill_seconds", kHistogram, {"prompt_class"}, "From a request's first step to its first token."};
inline constexpr Family kDecodeTime{
    "yoio_decode_seconds", kHistogram, {}, "From a request's first token to its last."};
inline constexpr Family kRequestDuration{
    "yoio_request_duration_seconds", kHistogram, {}, "Of requests that were accepted, from arrival to end."};

// Start-up.
inline constexpr Family kModelLoadTime{
    "yoio_model_load_seconds", kGauge, {"phase"}, "What each part of start-up took."};
inline constexpr Family kModelLoadProgress{
    "yoio_model_load_progress_ratio", kGauge, {}, "How far the present part of start-up has come."};
inline constexpr Family kBuildInfo{"yoio_build_info",
                                   kInfo,
                                   {"version", "model", "revision", "device", "ranks"},
                                   "What is served, and by what."};

// Steps under way.
inline constexpr Family kStepAge{
    "yoio_step_age_seconds", kGauge, {}, "How long the oldest step has been under way; 0 when none is."};
inline constexpr Family kRankEndedStep{
    "yoio_rank_ended_step", kGauge, {"rank"}, "The last step that a rank has ended; -1 before the first."};

// Traces.
inline constexpr Family kTraceSpans{
    "yoio_trace_spans_total",
    kCounter,
    {"result"},
    "Spans by what became of them: exported, dropped for want of room, failed with the collector."};

// The log.
inline constexpr Family kLogLinesDropped{
    "yoio_log_lines_dropped_total", kCounter, {}, "Log lines that standard error did not take in time."};

// The process; names and meanings are those of the Prometheus client libraries.
inline constexpr Family kProcessResidentMemory{
    "process_resident_memory_bytes", kGauge, {}, "Resident memory size in bytes."};
inline constexpr Family kProcessOpenFds{"process_open_fds", kGauge, {}, "Number of open file descriptors."};
inline constexpr Family kProcessMaxFds{
    "process_max_fds", kGauge, {}, "Maximum number of open file descriptors."};
inline constexpr Family kProcessCpu{
    "process_cpu_seconds_total", kCounter, {}, "Total user and system CPU time spent in seconds."};
inline constexpr Family kProcessStartTime{
    "process_start_time_seconds", kGauge, {}, "Start time of the process since unix epoch in seconds."};

}  // namespace families

}  // namespace yoio

#endif  // YOIO_SERVER_METRICS_FAMILIES_H_
