#include "server/flight_dump.h"

#include <unistd.h>

#include <filesystem>
#include <system_error>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"
#include "server/atomic_file.h"
#include "server/rank_json.h"
#include "server/version.h"
#include "server/wall_clock.h"

namespace yoio {
namespace {

using Json = nlohmann::ordered_json;

int64_t Micros(Duration duration) {
  return std::chrono::duration_cast<std::chrono::microseconds>(duration).count();
}

int64_t UnixMicros(const WallClock& clock, TimePoint time) { return clock.UnixNanos(time) / 1000; }

Json ToJson(const Timing& timing) {
  return {{"tokenize", Micros(timing.tokenize)}, {"queue", Micros(timing.queue)},
          {"prefill", Micros(timing.prefill)},   {"time_to_first_token", Micros(timing.time_to_first_token)},
          {"decode", Micros(timing.decode)},     {"longest_gap", Micros(timing.longest_gap)},
          {"deliver", Micros(timing.deliver)},   {"blocked_on_client", Micros(timing.blocked_on_client)},
          {"total", Micros(timing.total)}};
}

Json ToJson(const RequestRecord& request, const WallClock& clock) {
  Json json = {{"kind", "request"},
               {"number", request.number},
               {"request_id", request.id},
               {"tenant", request.tenant},
               {"arrival_unix_us", UnixMicros(clock, request.arrival)}};
  if (request.trace.valid()) {
    const auto& bytes = request.trace.trace;
    json["trace_id"] = absl::BytesToHexString({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  }
  if (request.ended) json["ended_unix_us"] = UnixMicros(clock, *request.ended);
  if (request.code) json["code"] = static_cast<int>(*request.code);
  if (!request.reason.empty()) json["reason"] = request.reason;
  json["prompt_tokens"] = request.usage.prompt_tokens;
  json["cached_tokens"] = request.usage.cached_tokens;
  json["completion_tokens"] = request.usage.completion_tokens;
  json["timing_us"] = ToJson(request.timing);
  json["preemptions"] = request.timing.preemptions;
  json["first_step"] = request.first_step;
  json["last_step"] = request.last_step;
  return json;
}

Json ToJson(const StepTimes& times) {
  Json phases = Json::object();
  for (int i = 0; i < kNumStepPhases; ++i) {
    phases[std::string(NameOf(static_cast<StepPhase>(i)))] = Micros(times.phases[i]);
  }
  return {{"total_us", Micros(times.total)},
          {"phases_us", std::move(phases)},
          {"comm_wait_us", Micros(times.comm_wait)},
          {"recorded", times.recorded}};
}

Json ToJson(const StepRecord& step, const WallClock& clock) {
  Json json = {{"kind", "step"},
               {"step", step.step},
               {"begin_unix_us", UnixMicros(clock, step.begin)},
               {"plan_us", Micros(step.submitted - step.begin)}};
  if (step.ended) json["total_us"] = Micros(*step.ended - step.begin);
  json["prompt_tokens"] = step.prompt_tokens;
  json["generated_tokens"] = step.generated_tokens;
  json["output_rows"] = step.output_rows;
  json["requests"] = step.requests;
  json["running"] = step.running;
  json["waiting"] = step.waiting;
  json["free_blocks"] = step.free_blocks;
  Json& ranks = json["ranks"] = Json::array();
  for (const StepTimes& times : step.ranks) ranks.push_back(ToJson(times));
  Json& members = json["members"] = Json::array();
  for (const StepMember& member : step.members) members.push_back({member.request, member.tokens});
  return json;
}

std::string DefaultPath() {
  std::error_code error;
  std::filesystem::path directory = std::filesystem::temp_directory_path(error);
  if (error) directory = "/tmp";
  return directory / absl::StrCat("yoio-flight-", getpid(), ".json");
}

}  // namespace

std::string RenderFlightDump(const Engine& engine, std::string_view reason) {
  const FlightRecorder* recorder = engine.recorder();
  std::string text;
  if (recorder == nullptr) return text;
  const WallClock clock;
  const auto add = [&text](const Json& json) {
    text.append(json.dump(-1, ' ', false, Json::error_handler_t::replace)).push_back('\n');
  };
  add({{"kind", "server"},
       {"reason", reason},
       {"time_unix_us", UnixMicros(clock, clock.now())},
       {"version", kVersion},
       {"model_revision", engine.model().revision}});
  for (const RankState& rank : engine.ranks()) {
    Json json = {{"kind", "rank"}};
    json.update(ToJson(rank));
    add(json);
  }
  for (const RequestRecord& request : recorder->RequestsSince(TimePoint::min())) add(ToJson(request, clock));
  for (const StepRecord& step : recorder->StepsSince(TimePoint::min())) add(ToJson(step, clock));
  return text;
}

void WriteFlightDump(const Engine& engine, const std::string& path, std::string_view reason,
                     const Logger& log) {
  if (engine.recorder() == nullptr) return;
  const std::string file = path.empty() ? DefaultPath() : path;
  const absl::Status written = WriteAtomically(file, RenderFlightDump(engine, reason));
  LogLine line(written.ok() ? LogLevel::kInfo : LogLevel::kWarning, "flight recorder");
  line.With("reason", reason);
  if (written.ok()) line.With("file", file);
  if (!written.ok()) line.With("message", std::string(written.message()));
  log.Write(std::move(line));
}

}  // namespace yoio
