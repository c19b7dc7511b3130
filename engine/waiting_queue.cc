#include "engine/waiting_queue.h"

#include <algorithm>
#include <tuple>

#include "base/check.h"

namespace yoio {
namespace {

constexpr int32_t kTopClass = static_cast<int32_t>(Priority::kHigh);
// After so many times the ageing a request without a deadline goes before newer ones with one.
constexpr int32_t kPatience = 6;

// Classes that a request rises in this time.
int64_t Risen(TimePoint since, TimePoint now, Duration ageing) {
  return now > since ? (now - since) / ageing : 0;
}

}  // namespace

Urgency Urgency::Of(const SequenceGroup& group, TimePoint since, TimePoint now, Duration ageing) {
  const int64_t level = OwnLevel(group) - group.risen - Risen(since, now, ageing);
  return {.level = static_cast<int32_t>(std::max<int64_t>(0, level)),
          .due = std::min(group.due, group.arrival + kPatience * ageing),
          .arrival = group.arrival};
}

int32_t Urgency::OwnLevel(const SequenceGroup& group) {
  return kTopClass - static_cast<int32_t>(group.priority);
}

void WaitingQueue::Add(SequenceGroup* group, TimePoint since, bool resumes) {
  Tenant& tenant = tenants_[group->tenant];
  tenant.weight = group->tenant_limits.weight;
  if (tenant.waiting++ == 0) tenant.virtual_time = std::max(tenant.virtual_time, virtual_time_);
  const int64_t tokens = static_cast<int64_t>(group->prompt.size());
  tenant.tokens += tokens;
  tokens_ += tokens;
  entries_.push_back({.group = group,
                      .tenant = &tenant,
                      .since = since,
                      .number = additions_++,
                      .resumes = resumes,
                      .cause_since = since});
  arranged_ = false;
}

bool WaitingQueue::Remove(SequenceGroup* group, TimePoint now) {
  const int32_t place = Place(group);
  if (place < 0) return false;
  Entry& entry = entries_[place];
  SetCause(entry, WaitCause::kNothing, now);
  const int64_t tokens = static_cast<int64_t>(group->prompt.size());
  --entry.tenant->waiting;
  entry.tenant->tokens -= tokens;
  tokens_ -= tokens;
  entries_.erase(entries_.begin() + place);
  return true;
}

void WaitingQueue::Start(SequenceGroup* group, int32_t tokens, TimePoint now) {
  const int32_t place = Place(group);
  YOIO_CHECK_GE(place, 0) << "a group that does not wait starts";
  Tenant& tenant = *entries_[place].tenant;
  const int64_t risen = group->risen + Risen(entries_[place].since, now, ageing_);
  group->risen = static_cast<int32_t>(std::min<int64_t>(risen, kTopClass));
  Remove(group, now);
  virtual_time_ = std::max(virtual_time_, tenant.virtual_time);
  tenant.virtual_time += tokens / tenant.weight;
}

void WaitingQueue::Charge(const SequenceGroup& group, int32_t tokens) {
  Tenant& tenant = tenants_[group.tenant];
  tenant.virtual_time += tokens / tenant.weight;
  if (tenant.waiting > 0 && tenant.waiting < size()) arranged_ = false;
}

void WaitingQueue::Arrange(TimePoint now) {
  if (arranged_ && now < arranged_until_) return;
  arranged_ = true;
  arranged_until_ = TimePoint::max();
  for (Entry& entry : entries_) {
    entry.urgency = Urgency::Of(*entry.group, entry.since, now, ageing_);
    entry.tenant->next_tag = entry.tenant->virtual_time;
    if (entry.urgency.level == 0) continue;
    const int64_t risen = Risen(entry.since, now, ageing_);
    arranged_until_ = std::min(arranged_until_, entry.since + (risen + 1) * ageing_);
  }
  // Inside a tenant first: only then is it known what it will have had when a request starts.
  std::sort(entries_.begin(), entries_.end(), [](const Entry& a, const Entry& b) {
    return std::tuple(a.urgency.level, !a.resumes, a.urgency, a.number) <
           std::tuple(b.urgency.level, !b.resumes, b.urgency, b.number);
  });
  for (Entry& entry : entries_) {
    entry.tag = entry.tenant->next_tag;
    if (entry.resumes) continue;
    entry.tenant->next_tag += static_cast<double>(entry.group->prompt.size()) / entry.tenant->weight;
  }
  const auto before = [](const Entry& a, const Entry& b) {
    return std::tuple(a.urgency.level, !a.resumes, a.tag) < std::tuple(b.urgency.level, !b.resumes, b.tag);
  };
  std::stable_sort(entries_.begin(), entries_.end(), before);
}

void WaitingQueue::SetCause(Entry& entry, WaitCause cause, TimePoint now) {
  if (entry.cause == cause) return;
  const Duration waited = std::max(Duration::zero(), now - entry.cause_since);
  entry.group->waited[static_cast<int>(entry.cause)] += waited;
  entry.cause = cause;
  entry.cause_since = now;
}

int32_t WaitingQueue::Place(const SequenceGroup* group) const {
  const auto it = std::find_if(entries_.begin(), entries_.end(),
                               [group](const Entry& entry) { return entry.group == group; });
  return it == entries_.end() ? -1 : static_cast<int32_t>(it - entries_.begin());
}

int32_t WaitingQueue::size(const std::string& tenant) const {
  const auto it = tenants_.find(tenant);
  return it == tenants_.end() ? 0 : it->second.waiting;
}

int64_t WaitingQueue::tokens(const std::string& tenant) const {
  const auto it = tenants_.find(tenant);
  return it == tenants_.end() ? 0 : it->second.tokens;
}

}  // namespace yoio
