#include "server/trace/step_spans.h"

#include <algorithm>
#include <array>
#include <string>
#include <utility>

#include "base/check.h"

namespace yoio {
namespace {

constexpr std::array<std::string_view, kNumStepPhases> kPhaseKeys = {
    "yoio.phase.inputs",          "yoio.phase.self_decoder",  "yoio.phase.index_scores", "yoio.phase.top_k",
    "yoio.phase.index_broadcast", "yoio.phase.cross_decoder", "yoio.phase.sampling"};

void SetFacts(const StepRecord& step, Span& span) {
  Set(span, "yoio.step", step.step);
  Set(span, "yoio.prompt_tokens", step.prompt_tokens);
  Set(span, "yoio.generated_tokens", step.generated_tokens);
  Set(span, "yoio.output_rows", step.output_rows);
  Set(span, "yoio.requests", step.requests);
  Set(span, "yoio.running", step.running);
  Set(span, "yoio.waiting", step.waiting);
  Set(span, "yoio.free_blocks", step.free_blocks);
  Set(span, "yoio.took", step.took);
}

void LinkTo(std::span<const TraceId> requests, Span& span) {
  const size_t kept = std::min<size_t>(requests.size(), kMaxStepLinks);
  for (const TraceId& request : requests.first(kept)) {
    span.links.push_back({.to = request, .attributes = {}});
  }
  span.dropped_links = static_cast<uint32_t>(requests.size() - kept);
}

// A rank tells how long its phases took, by its own clock, not when they began. They are laid one after the
// other so that the last ends when the step did: where they lie is true but for what the result took to get
// here, how long they are is exact. A phase that the rank came back to is shown once.
void AddRank(int rank, const StepTimes& times, const Span& step, TimePoint ended, const SpanMaker& maker,
             std::vector<Span>& spans) {
  TimePoint begin = ended - times.total;
  Span span = maker.Child(step, "rank", begin, ended);
  Set(span, "yoio.rank", rank);
  Set(span, "yoio.comm_wait", times.comm_wait);
  Set(span, "yoio.recorded", times.recorded);
  spans.push_back(span);
  for (int i = 0; i < kNumStepPhases; ++i) {
    const Duration duration = times.phases[i];
    if (duration == Duration::zero()) continue;
    Span phase = maker.Child(span, std::string(NameOf(static_cast<StepPhase>(i))), begin, begin + duration);
    Set(phase, "yoio.rank", rank);
    spans.push_back(std::move(phase));
    begin += duration;
  }
}

}  // namespace

std::vector<Span> StepSpans(const StepRecord& step, const TraceId& id, std::span<const TraceId> requests,
                            const SpanMaker& maker) {
  YOIO_CHECK(step.ended.has_value()) << "step " << step.step << " is under way";
  Span root = maker.Make(id, "step", step.begin, *step.ended);
  SetFacts(step, root);
  LinkTo(requests, root);
  std::vector<Span> spans = {root, maker.Child(root, "plan", step.begin, step.submitted)};
  for (size_t rank = 0; rank < step.ranks.size(); ++rank) {
    const StepTimes& times = step.ranks[rank];
    if (times.total == Duration::zero()) continue;  // has not told
    AddRank(static_cast<int>(rank), times, root, *step.ended, maker, spans);
  }
  return spans;
}

Span SlowStepSpan(const StepRecord& step, RequestNumber request, const Span& server, TimePoint now,
                  const SpanMaker& maker) {
  Span span = maker.Child(server, "slow_step", step.begin, step.ended.value_or(now));
  SetFacts(step, span);
  Set(span, "yoio.ended", step.ended.has_value());
  const auto member = std::find_if(step.members.begin(), step.members.end(),
                                   [request](const StepMember& each) { return each.request == request; });
  if (member != step.members.end()) Set(span, "yoio.own_tokens", member->tokens);
  Set(span, "yoio.plan", step.submitted - step.begin);
  for (int phase = 0; phase < kNumStepPhases; ++phase) {
    Duration longest{};
    for (const StepTimes& times : step.ranks) longest = std::max(longest, times.phases[phase]);
    if (longest > Duration::zero()) Set(span, kPhaseKeys[phase], longest);
  }
  const auto slowest =
      std::max_element(step.ranks.begin(), step.ranks.end(),
                       [](const StepTimes& a, const StepTimes& b) { return a.total < b.total; });
  if (slowest != step.ranks.end() && slowest->total > Duration::zero()) {
    Set(span, "yoio.slowest_rank", static_cast<int64_t>(slowest - step.ranks.begin()));
  }
  return span;
}

}  // namespace yoio
