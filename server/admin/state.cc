#include "server/admin/state.h"

#include <algorithm>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/errors.h"
#include "server/admin/trace_messages.h"
#include "server/convert.h"
#include "server/wall_clock.h"

namespace yoio {
namespace {

constexpr Duration kPatience = std::chrono::seconds(1);  // with the engine thread

void SetRank(const RankState& rank, v1::RankState& out) {
  out.set_rank(rank.rank);
  if (rank.ended_step >= 0) out.set_ended_step(rank.ended_step);
  if (rank.step < 0) return;
  out.set_step(rank.step);
  out.set_phase(std::string(NameOf(rank.phase)));
  if (rank.collective != Collective::kNone) out.set_collective(std::string(NameOf(rank.collective)));
}

void SetEngine(const EngineState& state, v1::EngineState& out) {
  const WallClock clock;
  ToProto(clock, clock.now(), *out.mutable_time());
  out.set_step(state.step);
  out.set_running(state.load.running);
  out.set_waiting(state.load.waiting);
  out.set_free_blocks(state.load.free_blocks);
  out.set_cached_blocks(state.load.cached_blocks);
  out.set_total_blocks(state.load.total_blocks);
  out.set_draining(state.draining);
  out.set_waiting_tokens(state.load.waiting_tokens);
  for (const RankState& rank : state.ranks) SetRank(rank, *out.add_ranks());
}

const char* NameOf(Phase phase) {
  switch (phase) {
    case Phase::kQueued:
      return "queued";
    case Phase::kPrefill:
      return "prefill";
    case Phase::kDecode:
      return "decode";
  }
  return "";
}

void SetRequest(const RequestState& request, v1::RequestState& out) {
  out.set_request_id(request.id);
  out.set_tenant(request.tenant);
  ToProto(request.age, *out.mutable_age());
  out.set_phase(NameOf(request.phase));
  out.set_queue_position(request.queue_position);
  out.set_prompt_tokens(request.prompt_tokens);
  out.set_prompt_tokens_done(request.prompt_tokens_done);
  out.set_completion_tokens(request.completion_tokens);
  out.set_blocks(request.blocks);
  out.set_unread_bytes(request.unread_bytes);
}

// As the engine thread last told others.
EngineState StateWithoutEngineThread(const Engine& engine, bool draining) {
  EngineState state;
  state.load = engine.load();
  state.draining = draining;
  state.ranks = engine.ranks();
  if (const FlightRecorder* recorder = engine.recorder()) state.step = recorder->last_step();
  return state;
}

// Requests that live, by the recorder alone: who they are, and for how long.
std::vector<RequestState> RequestsWithoutEngineThread(const Engine& engine, int32_t max_requests) {
  std::vector<RequestState> requests;
  const FlightRecorder* recorder = engine.recorder();
  if (recorder == nullptr) return requests;
  const TimePoint now = Clock::now();
  for (RequestRecord& record : recorder->RequestsSince(now)) {
    if (record.ended || static_cast<int32_t>(requests.size()) == max_requests) continue;
    requests.push_back({.id = std::move(record.id),
                        .tenant = std::move(record.tenant),
                        .age = now - record.arrival,
                        .phase = record.first_step < 0 ? Phase::kQueued : Phase::kPrefill});
  }
  return requests;
}

class StateAnswer final : public AnswerSource<v1::DumpStateResponse> {
 public:
  StateAnswer(Engine& engine, bool draining, int32_t max_requests)
      : engine_(engine), draining_(draining), max_requests_(max_requests) {}

  AnswerPart<v1::DumpStateResponse> Next() override {
    v1::DumpStateResponse response;
    if (!begun_) {
      begun_ = true;
      Ask();
      SetEngine(state_, *response.mutable_engine());
      return response;
    }
    if (next_ == state_.requests.size()) return end_;
    SetRequest(state_.requests[next_++], *response.mutable_request());
    return response;
  }

 private:
  void Ask() {
    absl::StatusOr<EngineState> state = engine_.DumpState(max_requests_, Clock::now() + kPatience);
    if (state.ok()) {
      state_ = *std::move(state);
      return;
    }
    end_ = WithReason(absl::StatusCode::kUnavailable, kReasonEngineFailed,
                      absl::StrCat("this is what is known without the engine thread: ",
                                   engine_.health().ok() ? state.status().message() : "it has failed"));
    state_ = StateWithoutEngineThread(engine_, draining_);
    state_.requests = RequestsWithoutEngineThread(engine_, max_requests_);
  }

  Engine& engine_;
  const bool draining_;
  const int32_t max_requests_;
  bool begun_ = false;
  EngineState state_;
  size_t next_ = 0;  // of its requests
  absl::Status end_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<AnswerSource<v1::DumpStateResponse>>> AnswerState(
    Engine& engine, bool draining, const v1::DumpStateRequest& request) {
  if (request.has_max_requests() && request.max_requests() < 1) {
    return absl::InvalidArgumentError("max_requests: expected 1 or more");
  }
  const int32_t max_requests =
      request.has_max_requests() ? request.max_requests() : std::numeric_limits<int32_t>::max();
  return std::make_unique<StateAnswer>(engine, draining, max_requests);
}

}  // namespace yoio
