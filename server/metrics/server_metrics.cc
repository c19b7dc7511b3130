#include "server/metrics/server_metrics.h"

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/metrics/families.h"

namespace yoio {
namespace {

// What an engine says of itself, or would say before it has done anything.
struct EngineReading {
  bool healthy = false;
  Load load;
  int32_t slots = 0;
  EngineStats stats;
  std::vector<LoadTime> load_times;
  std::vector<RankState> ranks;
  Duration step_age{};
};

// How long the oldest step has been under way; zero when none is.
Duration StepAge(const FlightRecorder& recorder) {
  constexpr int64_t kMostUnderWay = 8;  // more than any --pipeline-depth
  const int64_t last = recorder.last_step();
  for (const StepRecord& step : recorder.Steps(last - kMostUnderWay, last)) {
    if (!step.ended) return Clock::now() - step.submitted;
  }
  return Duration::zero();
}

EngineReading Read(const Engine* engine) {
  if (engine == nullptr) return {};
  return {.healthy = engine->health().ok(),
          .load = engine->load(),
          .slots = engine->memory().max_sequences,
          .stats = engine->stats(),
          .load_times = engine->load_times(),
          .ranks = engine->ranks(),
          .step_age = engine->recorder() != nullptr ? StepAge(*engine->recorder()) : Duration::zero()};
}

double Share(int64_t part, int64_t whole) {
  return whole > 0 ? static_cast<double>(part) / static_cast<double>(whole) : 0;
}

void WriteLoad(const Load& load, int32_t slots, Exposition& exposition) {
  exposition.AddFamily(families::kRequestsRunning, load.running);
  exposition.AddFamily(families::kRequestsWaiting, load.waiting);
  exposition.AddFamily(families::kWaitingTokens, load.waiting_tokens);
  const int32_t used_blocks = load.total_blocks - load.free_blocks;
  exposition.Begin(families::kCacheUsage);
  exposition.Add({"global"}, Share(used_blocks, load.total_blocks));
  exposition.Add({"window"}, Share(slots - load.free_slots, slots));
  exposition.Begin(families::kCacheBlocks);
  exposition.Add({"used"}, used_blocks);
  exposition.Add({"cached"}, load.cached_blocks);
  exposition.Add({"free"}, load.free_blocks - load.cached_blocks);
  exposition.AddFamily(families::kPromptTokens, load.prompt_tokens);
  exposition.AddFamily(families::kCachedTokens, load.cached_tokens);
  exposition.AddFamily(families::kGeneratedTokens, load.generated_tokens);
  exposition.AddFamily(families::kPreemptions, load.preemptions);
  exposition.AddFamily(families::kSteps, load.steps);
}

void WriteSteps(const EngineStats& stats, Exposition& exposition) {
  exposition.Begin(families::kStepTime);
  exposition.Add({"total"}, stats.step);
  exposition.Add({"plan"}, stats.plan);
  for (int phase = 0; phase < kNumStepPhases; ++phase) {
    exposition.Add({NameOf(static_cast<StepPhase>(phase))}, stats.phases[phase]);
  }
  exposition.Add({"comm_wait"}, stats.comm_wait);
  exposition.AddFamily(families::kInterToken, stats.inter_token);
}

void WriteLoadTimes(const std::vector<LoadTime>& times, Exposition& exposition) {
  exposition.Begin(families::kModelLoadTime);
  for (const LoadTime& time : times) exposition.Add({time.phase}, ToSeconds(time.end - time.begin));
}

void WriteRanks(const std::vector<RankState>& ranks, Duration step_age, Exposition& exposition) {
  exposition.AddFamily(families::kStepAge, ToSeconds(step_age));
  exposition.Begin(families::kRankEndedStep);
  for (const RankState& rank : ranks) {
    exposition.Add({absl::StrCat(rank.rank)}, static_cast<double>(rank.ended_step));
  }
}

void WriteSpans(const ExportCounts& spans, Exposition& exposition) {
  exposition.Begin(families::kTraceSpans);
  exposition.Add({"exported"}, static_cast<double>(spans.exported));
  exposition.Add({"dropped"}, static_cast<double>(spans.dropped));
  exposition.Add({"failed"}, static_cast<double>(spans.failed));
}

}  // namespace

void ServerMetrics::NoteProgress(int64_t done, int64_t total) { progress_ = Share(done, total); }

void ServerMetrics::SetEngine(const Engine* engine) {
  MutexLock lock(mutex_);
  engine_ = engine;
}

std::string ServerMetrics::Scrape(ExpositionFormat format) const {
  Exposition exposition(format);
  MutexLock lock(mutex_);
  const EngineReading reading = Read(engine_);
  exposition.AddFamily(families::kEngineHealthy, reading.healthy ? 1 : 0);
  exposition.AddFamily(families::kModelLoadProgress, progress_.load());
  exposition.Begin(families::kBuildInfo);
  if (engine_ != nullptr) {
    exposition.Add({options_.version, options_.model, engine_->model().revision, engine_->memory().device,
                    absl::StrCat(engine_->memory().ranks)},
                   1);
  }
  WriteLoadTimes(reading.load_times, exposition);
  WriteLoad(reading.load, reading.slots, exposition);
  WriteSteps(reading.stats, exposition);
  calls_.Write(exposition);
  WriteRanks(reading.ranks, reading.step_age, exposition);
  WriteSpans(options_.spans ? options_.spans() : ExportCounts{}, exposition);
  exposition.AddFamily(families::kLogLinesDropped, options_.log != nullptr ? options_.log->dropped() : 0);
  process_.Write(exposition);
  return std::move(exposition).Finish();
}

}  // namespace yoio
