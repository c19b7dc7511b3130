#include "server/admin/trace_messages.h"

#include <algorithm>
#include <string>

#include "absl/strings/escaping.h"

namespace yoio {
namespace {

constexpr size_t kMostMembers = 1024;

void SetRank(int rank, const StepTimes& times, v1::RankTimes& out) {
  out.set_rank(rank);
  ToProto(times.total, *out.mutable_total());
  for (int i = 0; i < kNumStepPhases; ++i) {
    if (times.phases[i] == Duration::zero()) continue;
    v1::PhaseTime& phase = *out.add_phases();
    phase.set_phase(std::string(NameOf(static_cast<StepPhase>(i))));
    ToProto(times.phases[i], *phase.mutable_duration());
  }
  if (times.comm_wait > Duration::zero()) ToProto(times.comm_wait, *out.mutable_comm_wait());
}

// Its planning is part of it, unless the step before it was still under way.
Duration DurationOf(const StepRecord& record, TimePoint now) {
  const TimePoint end = record.ended.value_or(now);
  const bool waited = record.took < end - record.submitted;
  return waited ? record.took : end - record.begin;
}

std::string Hex(const std::array<uint8_t, 16>& bytes) {
  return absl::BytesToHexString({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
}

}  // namespace

void ToProto(const WallClock& clock, TimePoint time, google::protobuf::Timestamp& out) {
  const int64_t nanos = clock.UnixNanos(time);
  out.set_seconds(nanos / 1'000'000'000);
  out.set_nanos(static_cast<int32_t>(nanos % 1'000'000'000));
}

void ToProto(const RequestRecord& record, const WallClock& clock, const ServedModel& model,
             v1::RequestTrace& out) {
  out.set_request_id(record.id);
  out.set_tenant(record.tenant);
  ToProto(clock, record.arrival, *out.mutable_arrival());
  if (record.code) out.set_code(static_cast<int32_t>(*record.code));
  if (!record.reason.empty()) out.set_reason(record.reason);
  out.mutable_usage()->set_prompt_tokens(record.usage.prompt_tokens);
  out.mutable_usage()->set_cached_tokens(record.usage.cached_tokens);
  out.mutable_usage()->set_completion_tokens(record.usage.completion_tokens);
  ToProto(record.timing, EventView{.model = &model}, *out.mutable_timing());
  if (!record.ended) ToProto(clock.now() - record.arrival, *out.mutable_timing()->mutable_total());
  if (record.trace.valid()) out.mutable_timing()->set_trace_id(Hex(record.trace.trace));
  if (record.last_step >= 0) out.set_last_step(record.last_step);
}

void ToProto(const StepRecord& record, RequestNumber request, const WallClock& clock, RequestNames& names,
             v1::StepTrace& out) {
  out.set_step(record.step);
  ToProto(clock, record.begin, *out.mutable_start());
  ToProto(DurationOf(record, clock.now()), *out.mutable_duration());
  ToProto(record.submitted - record.begin, *out.mutable_plan());
  out.set_batch_tokens(record.prompt_tokens + record.generated_tokens);
  out.set_prompt_tokens(record.prompt_tokens);
  out.set_batch_requests(record.requests);
  out.set_waiting(record.waiting);
  out.set_free_blocks(record.free_blocks);
  for (size_t rank = 0; rank < record.ranks.size(); ++rank) {
    const StepTimes& times = record.ranks[rank];
    if (times.total > Duration::zero()) SetRank(static_cast<int>(rank), times, *out.add_ranks());
  }
  for (const StepMember& member : record.members) {
    if (member.request == request) out.set_tokens(out.tokens() + member.tokens);
  }
  const size_t named = std::min(record.members.size(), kMostMembers);
  for (size_t i = 0; i < named; ++i) {
    v1::StepMember& member = *out.add_members();
    member.set_request_id(names.Of(record.members[i].request));
    member.set_tokens(record.members[i].tokens);
  }
}

}  // namespace yoio
