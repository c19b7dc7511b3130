#include "engine/flight_recorder.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "base/check.h"
#include "base/mutex.h"
#include "engine/errors.h"
#include "engine/flight_slots.h"

namespace yoio {
namespace {

// Members of all steps: 256 to a step, unless there are so many ranks that less is left.
constexpr size_t kMaxMembers = size_t{1} << 20;
// Readers let go of the lock after so many.
constexpr int64_t kScannedSteps = 256;
constexpr int64_t kScannedMembers = 1024;
constexpr RequestNumber kScannedRequests = 256;
constexpr int64_t kLastStep = std::numeric_limits<int64_t>::max();

// A step as it was copied, in memory that is used again for the next one.
struct StepCopy {
  StepSlot slot;
  Duration took{};
  RequestNumber newest = 0;
  std::vector<PackedTimes> ranks;
  std::vector<PackedMember> members;

  StepRecord Unpack() const {
    StepRecord record;
    static_cast<StepFacts&>(record) = slot.facts;
    if (!slot.under_way()) record.ended = slot.ended;
    record.took = took;
    record.ranks.reserve(ranks.size());
    for (const PackedTimes& times : ranks) record.ranks.push_back(times.Unpack());
    record.members.reserve(members.size());
    for (const PackedMember& member : members) {
      const uint32_t before_newest = static_cast<uint32_t>(newest) - member.request;
      record.members.push_back({newest - before_newest, member.tokens});
    }
    return record;
  }
};

// The number of a step or request, and how long it took.
template <typename Number>
struct Found {
  Number number;
  Duration took;
};
using FoundStep = Found<int64_t>;
using FoundRequest = Found<RequestNumber>;

// The longest first.
template <typename Number>
void KeepLongest(int count, std::vector<Found<Number>>& found) {
  std::stable_sort(found.begin(), found.end(), [](const auto& a, const auto& b) { return a.took > b.took; });
  if (count < std::ssize(found)) found.resize(std::max(count, 0));
}

}  // namespace

// Rings: a step or request is at its number modulo their length, if it still is.
struct FlightRecorder::State {
  explicit State(int num_ranks)
      : num_ranks(std::min(num_ranks, kMaxRanks)),
        steps(kSteps),
        times(static_cast<size_t>(kSteps) * this->num_ranks),
        requests(kRequests) {
    const size_t rest = kMaxBytes - sizeof(FlightRecorder) - bytes();
    members.resize(std::min(kMaxMembers, rest / sizeof(PackedMember)));
  }

  size_t bytes() const ABSL_NO_THREAD_SAFETY_ANALYSIS {  // sizes never change
    return sizeof(State) + steps.size() * sizeof(StepSlot) + times.size() * sizeof(PackedTimes) +
           requests.size() * sizeof(RequestSlot) + members.size() * sizeof(PackedMember);
  }

  // Null when it is not known.
  StepSlot* FindStep(int64_t step) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    if (step < 0) return nullptr;
    StepSlot& slot = steps[step % kSteps];
    return slot.facts.step == step ? &slot : nullptr;
  }
  RequestSlot* FindRequest(RequestNumber number) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    RequestSlot& slot = requests[number % kRequests];
    return number != 0 && slot.number == number ? &slot : nullptr;
  }
  PackedTimes* TimesOf(int64_t step) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    return times.data() + step % kSteps * num_ranks;
  }

  // Calls `see` for each member of the step that is left.
  template <typename See>
  void EachMember(const StepSlot& slot, See see) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    const uint64_t oldest = member_end - std::min<uint64_t>(member_end, members.size());
    const uint64_t end = slot.first_member + slot.num_members;
    for (uint64_t i = std::max(oldest, slot.first_member); i < end; ++i) see(members[i % members.size()]);
  }

  bool HasMember(const StepSlot& slot, RequestNumber request) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    bool has = false;
    EachMember(slot,
               [&](const PackedMember& member) { has |= member.request == static_cast<uint32_t>(request); });
    return has;
  }

  Duration Took(const StepSlot& slot) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    return slot.under_way() ? Clock::now() - std::max(slot.facts.submitted, last_end) : slot.took;
  }

  // False when it is not known.
  bool Copy(int64_t step, StepCopy& copy) {
    MutexLock lock(mutex);
    const StepSlot* slot = FindStep(step);
    if (slot == nullptr) return false;
    copy.slot = *slot;
    copy.took = Took(*slot);
    copy.newest = newest;
    copy.ranks.assign(TimesOf(step), TimesOf(step) + num_ranks);
    copy.members.clear();
    EachMember(*slot, [&](const PackedMember& member) { copy.members.push_back(member); });
    return true;
  }

  // In the same order, without those that have been forgotten since.
  std::vector<StepRecord> Records(const std::vector<FoundStep>& found) {
    StepCopy copy;
    copy.ranks.reserve(num_ranks);
    copy.members.reserve(kScannedMembers);
    std::vector<StepRecord> records;
    records.reserve(found.size());
    for (const FoundStep& step : found) {
      if (Copy(step.number, copy)) records.push_back(copy.Unpack());
    }
    return records;
  }

  // The steps in [first, last] submitted at `begin` or later that have `member`, or any members when it is 0.
  std::vector<FoundStep> FindSteps(int64_t first, int64_t last, TimePoint begin, RequestNumber member) {
    std::vector<FoundStep> found;
    found.reserve(kSteps);
    for (bool more = true; more;) {
      MutexLock lock(mutex);
      first = std::max<int64_t>({first, 0, last_step - kSteps + 1});
      const int64_t end = std::min(last, last_step);
      int64_t steps_seen = 0, members_seen = 0;
      for (; first <= end && steps_seen < kScannedSteps && members_seen < kScannedMembers; ++first) {
        const StepSlot& slot = steps[first % kSteps];
        ++steps_seen;
        if (slot.facts.submitted < begin) continue;
        if (member != 0) {
          members_seen += slot.num_members;
          if (!HasMember(slot, member)) continue;
        }
        found.push_back({first, Took(slot)});
      }
      more = first <= end;
    }
    return found;
  }

  // Those that `matches`, in their order.
  template <typename Matches>
  std::vector<FoundRequest> FindRequests(Matches matches) {
    std::vector<FoundRequest> found;
    found.reserve(kRequests);
    const TimePoint now = Clock::now();
    RequestNumber next = 1;
    for (bool more = true; more;) {
      MutexLock lock(mutex);
      next = std::max(next, newest - std::min<RequestNumber>(newest, kRequests) + 1);
      const RequestNumber end = std::min(next + kScannedRequests, newest + 1);
      for (; next < end; ++next) {
        const RequestSlot& slot = requests[next % kRequests];
        if (matches(slot)) found.push_back({next, slot.Age(now)});
      }
      more = next <= newest;
    }
    return found;
  }

  std::optional<RequestRecord> Request(RequestNumber number) {
    RequestSlot copy;
    {
      MutexLock lock(mutex);
      const RequestSlot* slot = FindRequest(number);
      if (slot == nullptr) return std::nullopt;
      copy = *slot;
    }
    return copy.Unpack();
  }

  std::vector<RequestRecord> Records(const std::vector<FoundRequest>& found) {
    std::vector<RequestRecord> records;
    records.reserve(found.size());
    for (const FoundRequest& request : found) {
      if (auto record = Request(request.number)) records.push_back(*std::move(record));
    }
    return records;
  }

  const int num_ranks;
  Mutex mutex;
  std::vector<StepSlot> steps ABSL_GUARDED_BY(mutex);
  std::vector<PackedTimes> times ABSL_GUARDED_BY(mutex);  // [kSteps, num_ranks]
  std::vector<RequestSlot> requests ABSL_GUARDED_BY(mutex);
  std::vector<PackedMember> members ABSL_GUARDED_BY(mutex);
  uint64_t member_end ABSL_GUARDED_BY(mutex) = 0;  // counted from the start
  RequestNumber newest ABSL_GUARDED_BY(mutex) = 0;
  int64_t last_step ABSL_GUARDED_BY(mutex) = -1;
  TimePoint last_end ABSL_GUARDED_BY(mutex){};
};

FlightRecorder::FlightRecorder(int num_ranks) : state_(std::make_unique<State>(num_ranks)) {}
FlightRecorder::~FlightRecorder() = default;

size_t FlightRecorder::bytes() const { return sizeof(FlightRecorder) + state_->bytes(); }

RequestNumber FlightRecorder::Accepted(std::string_view id, std::string_view tenant, const TraceId& trace,
                                       TimePoint arrival) {
  MutexLock lock(state_->mutex);
  const RequestNumber number = ++state_->newest;
  RequestSlot& slot = state_->requests[number % kRequests];
  slot = RequestSlot();
  slot.number = number;
  slot.arrival = arrival;
  slot.id = id;
  slot.tenant = tenant;
  slot.trace = trace;
  return number;
}

void FlightRecorder::Planned(const StepFacts& facts, std::span<const StepMember> members) {
  State& state = *state_;
  MutexLock lock(state.mutex);
  state.last_step = facts.step;
  StepSlot& slot = state.steps[facts.step % kSteps];
  slot = {.facts = facts, .first_member = state.member_end, .num_members = std::ssize(members)};
  std::fill_n(state.TimesOf(facts.step), state.num_ranks, PackedTimes());
  for (const StepMember& member : members) {
    state.members[state.member_end++ % state.members.size()] = {static_cast<uint32_t>(member.request),
                                                                member.tokens};
    RequestSlot* request = state.FindRequest(member.request);
    if (request == nullptr) continue;
    request->last_step = facts.step;
    if (request->first_step < 0) request->first_step = facts.step;
  }
}

Duration FlightRecorder::Delivered(int64_t step, TimePoint now) {
  MutexLock lock(state_->mutex);
  StepSlot* slot = state_->FindStep(step);
  YOIO_CHECK(slot != nullptr) << "step " << step << " was never planned";
  slot->ended = now;
  slot->took = now - std::max(slot->facts.submitted, state_->last_end);
  state_->last_end = now;
  return slot->took;
}

void FlightRecorder::RankEnded(int rank, int64_t step, const StepTimes& times) {
  YOIO_CHECK_GE(rank, 0);
  if (rank >= state_->num_ranks) return;
  const PackedTimes packed(times);
  MutexLock lock(state_->mutex);
  if (state_->FindStep(step) != nullptr) state_->TimesOf(step)[rank] = packed;
}

void FlightRecorder::Ended(RequestNumber request, const absl::Status& status, const SummaryEvent& summary,
                           TimePoint now) {
  const std::string reason = ReasonOf(status);
  MutexLock lock(state_->mutex);
  RequestSlot* slot = state_->FindRequest(request);
  if (slot == nullptr) return;
  slot->ended = now;
  if (!slot->closed) slot->SetOutcome(status.code(), reason, summary.usage, summary.timing);
}

void FlightRecorder::Closed(RequestNumber request, absl::StatusCode code, std::string_view reason,
                            const Usage& usage, const Timing& timing) {
  MutexLock lock(state_->mutex);
  RequestSlot* slot = state_->FindRequest(request);
  if (slot == nullptr) return;
  slot->closed = true;
  slot->SetOutcome(code, reason, usage, timing);
}

std::vector<StepRecord> FlightRecorder::Steps(int64_t first, int64_t last) const {
  return state_->Records(state_->FindSteps(first, last, TimePoint::min(), 0));
}

std::vector<StepRecord> FlightRecorder::StepsSince(TimePoint begin) const {
  return state_->Records(state_->FindSteps(0, kLastStep, begin, 0));
}

std::vector<StepRecord> FlightRecorder::StepsOf(RequestNumber request, std::optional<int> slowest) const {
  if (request == 0) return {};
  const auto known = state_->Request(request);
  const int64_t first = known.has_value() ? known->first_step : 0;
  const int64_t last = known.has_value() ? known->last_step : kLastStep;
  if (first < 0) return {};
  std::vector<FoundStep> found = state_->FindSteps(first, last, TimePoint::min(), request);
  if (slowest.has_value()) KeepLongest(*slowest, found);
  return state_->Records(found);
}

int64_t FlightRecorder::last_step() const {
  MutexLock lock(state_->mutex);
  return state_->last_step;
}

std::optional<RequestRecord> FlightRecorder::Request(RequestNumber request) const {
  return state_->Request(request);
}

std::vector<RequestRecord> FlightRecorder::RequestsById(std::string_view id) const {
  decltype(RequestSlot::id) wanted;  // cut as they are
  wanted = id;
  return state_->Records(
      state_->FindRequests([&](const RequestSlot& slot) { return slot.id.view() == wanted.view(); }));
}

std::vector<RequestRecord> FlightRecorder::RequestsSince(TimePoint end) const {
  return state_->Records(
      state_->FindRequests([end](const RequestSlot& slot) { return slot.lives() || slot.ended >= end; }));
}

std::vector<RequestRecord> FlightRecorder::SlowestRequests(int count) const {
  std::vector<FoundRequest> found = state_->FindRequests([](const RequestSlot&) { return true; });
  KeepLongest(count, found);
  return state_->Records(found);
}

}  // namespace yoio
