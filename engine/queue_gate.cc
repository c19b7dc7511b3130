#include "engine/queue_gate.h"

#include <algorithm>
#include <tuple>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "base/status.h"
#include "engine/errors.h"

namespace yoio {
namespace {

// Recent prompts are no promise for the next ones: who would be in time at this share of their speed may try.
constexpr double kSlack = 0.5;

absl::Status Full(std::string_view reason, std::string_view message) {
  return WithReason(absl::StatusCode::kResourceExhausted, reason, message);
}

}  // namespace

bool QueueGate::Before::operator()(const Place* a, const Place* b) const {
  return std::tie(b->priority_, a->due_, a->number_) < std::tie(a->priority_, b->due_, b->number_);
}

absl::Status QueueGate::Enter(Place& place, const Entry& entry, const Forecast& forecast, TimePoint now) {
  MutexLock lock(mutex_);
  YOIO_CHECK(!place.live_) << "a place is entered once";
  YOIO_RETURN_IF_ERROR(CheckRequests(entry));
  Add(place, entry);
  absl::Status status = CheckTokens(place, entry.tokens);
  SetTokens(place, entry.tokens);
  if (status.ok()) status = CheckDeadline(place, forecast, now);
  if (!status.ok()) Remove(place);
  return status;
}

absl::Status QueueGate::Correct(Place& place, int64_t tokens, const Forecast& forecast, TimePoint now) {
  MutexLock lock(mutex_);
  YOIO_CHECK(place.waiting_);
  const bool grows = tokens > place.tokens_;
  SetTokens(place, 0);
  const absl::Status room = grows ? CheckTokens(place, tokens) : absl::OkStatus();
  SetTokens(place, tokens);
  return room.ok() ? CheckDeadline(place, forecast, now) : room;
}

void QueueGate::Started(Place& place) {
  MutexLock lock(mutex_);
  StopWaiting(place);
}

void QueueGate::Computed(Place& place, int64_t tokens_left) {
  MutexLock lock(mutex_);
  if (place.live_ && place.tokens_ > 0) SetTokens(place, tokens_left);
}

void QueueGate::Leave(Place& place) {
  MutexLock lock(mutex_);
  if (place.live_) Remove(place);
}

QueueGate::Counts QueueGate::counts() const {
  MutexLock lock(mutex_);
  return counts_;
}

absl::Status QueueGate::CheckRequests(const Entry& entry) const {
  const auto tenant = tenants_.find(entry.tenant);
  const int32_t most = entry.limits.max_requests;
  if (most > 0 && tenant != tenants_.end() && tenant->second.live >= most) {
    return Full(kReasonTenantLimit,
                absl::StrCat("the tenant has ", most, " live requests already, as many as it may"));
  }
  if (counts_.waiting < max_requests_) return absl::OkStatus();
  return Full(kReasonQueueFull, absl::StrCat(max_requests_, " requests wait already; try again later"));
}

absl::Status QueueGate::CheckTokens(const Place& place, int64_t tokens) const {
  const Tenant& tenant = place.tenant_->second;
  const int64_t most = tenant.limits.max_queued_tokens;
  if (most > 0 && tenant.waiting > 1 && tenant.waiting_tokens + tokens > most) {
    return Full(kReasonTenantLimit, absl::StrCat("the tenant has ", tenant.waiting_tokens,
                                                 " prompt tokens waiting already, of at most ", most));
  }
  if (counts_.waiting == 1 || counts_.waiting_tokens + tokens <= max_tokens_) return absl::OkStatus();
  return Full(kReasonQueueFull,
              absl::StrCat(counts_.waiting_tokens, " prompt tokens wait already; try again later"));
}

absl::Status QueueGate::CheckDeadline(const Place& place, const Forecast& forecast, TimePoint now) const {
  if (now >= place.deadline_) {
    return WithReason(absl::StatusCode::kDeadlineExceeded, kReasonExpired, "the deadline has passed");
  }
  if (forecast.seconds_per_prompt_token <= 0) return absl::OkStatus();
  const double most = ToSeconds(place.deadline_ - now) * kSlack / forecast.seconds_per_prompt_token;
  if (!HasMoreAhead(place, most, forecast.uncached_share)) return absl::OkStatus();
  return WithReason(absl::StatusCode::kDeadlineExceeded, kReasonInfeasible,
                    "the deadline would pass before the first token comes; try again later, or elsewhere");
}

bool QueueGate::HasMoreAhead(const Place& place, double most, double uncached_share) const {
  if (static_cast<double>(prompt_tokens_) <= most) return false;
  // However much others have waiting, a tenant gets its share of the steps.
  const double others_for_each = weight_ / place.tenant_->second.limits.weight - 1;
  double own = static_cast<double>(place.tokens_) * uncached_share;
  double others = 0;
  for (const Place* ahead : prompts_) {
    if (ahead == &place || own + std::min(others, own * others_for_each) > most) break;
    const double tokens = static_cast<double>(ahead->tokens_) * (ahead->waiting_ ? uncached_share : 1);
    (ahead->tenant_ == place.tenant_ ? own : others) += tokens;
  }
  return own + std::min(others, own * others_for_each) > most;
}

void QueueGate::Add(Place& place, const Entry& entry) {
  place.priority_ = entry.priority;
  place.due_ = entry.due;
  place.deadline_ = entry.deadline;
  place.number_ = next_number_++;
  place.tokens_ = 0;
  place.tenant_ = tenants_.try_emplace(entry.tenant).first;
  place.live_ = place.waiting_ = true;
  Tenant& tenant = place.tenant_->second;
  if (tenant.prompts > 0) weight_ -= tenant.limits.weight;
  tenant.limits = entry.limits;
  weight_ += tenant.limits.weight;
  ++tenant.prompts;
  ++tenant.live;
  ++tenant.waiting;
  ++counts_.live;
  ++counts_.waiting;
  prompts_.insert(&place);
}

void QueueGate::Remove(Place& place) {
  StopWaiting(place);
  SetTokens(place, 0);
  place.live_ = false;
  --counts_.live;
  Tenant& tenant = place.tenant_->second;
  if (--tenant.live == 0) tenants_.erase(place.tenant_);
}

void QueueGate::StopWaiting(Place& place) {
  if (!place.waiting_) return;
  place.waiting_ = false;
  Tenant& tenant = place.tenant_->second;
  --tenant.waiting;
  tenant.waiting_tokens -= place.tokens_;
  --counts_.waiting;
  counts_.waiting_tokens -= place.tokens_;
}

void QueueGate::SetTokens(Place& place, int64_t tokens) {
  Tenant& tenant = place.tenant_->second;
  const int64_t change = tokens - place.tokens_;
  place.tokens_ = tokens;
  prompt_tokens_ += change;
  if (place.waiting_) {
    tenant.waiting_tokens += change;
    counts_.waiting_tokens += change;
  } else if (tokens == 0 && prompts_.erase(&place) > 0) {
    if (--tenant.prompts == 0) weight_ -= tenant.limits.weight;
    if (prompts_.empty()) weight_ = 0;  // whatever rounding has left
  }
}

}  // namespace yoio
