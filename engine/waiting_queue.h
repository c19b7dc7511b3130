// Requests that wait for admission, in the order in which they should run.
#ifndef YOIO_ENGINE_WAITING_QUEUE_H_
#define YOIO_ENGINE_WAITING_QUEUE_H_

#include <compare>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/container/node_hash_map.h"
#include "base/clock.h"
#include "engine/sequence.h"

namespace yoio {

// How much a request matters: the one that compares less goes first, and gives way last. The class is the
// request's own and rises with the time it has waited, so that nobody waits for ever behind a higher class.
// Inside a class the earliest `due` goes first; a request that names none, or a late one, is due when it has
// waited for some classes' worth of time, so that nobody waits for ever behind earlier ones either.
struct Urgency {
  int32_t level;  // the lower the more urgent
  TimePoint due;
  TimePoint arrival;

  auto operator<=>(const Urgency&) const = default;

  // Of a request that has waited since `since`; of one that runs, since `now`.
  static Urgency Of(const SequenceGroup& group, TimePoint since, TimePoint now, Duration ageing);
  // Without what it has gained by waiting.
  static int32_t OwnLevel(const SequenceGroup& group);
};

// Classes first, then requests that have given way to others before new ones, then fair share between the
// tenants inside a class, then urgency. Fair share is by virtual time: each tenant's runs with the tokens
// computed for it, divided by its weight, and the tenant furthest behind goes first. A tenant that had
// nothing to wait for keeps no claim from that time. Engine thread only.
class WaitingQueue {
 public:
  explicit WaitingQueue(Duration ageing) : ageing_(ageing) {}

  // `group` waits since `since`; the tenant's limits are its newest request's.
  void Add(SequenceGroup* group, TimePoint since, bool resumes);
  // It leaves the queue for good; the time that it has waited is in its `waited`. False when it did not wait.
  bool Remove(SequenceGroup* group, TimePoint now);
  // As Remove, to run: so many tokens will be computed for its prompt.
  void Start(SequenceGroup* group, int32_t tokens, TimePoint now);
  // So many further tokens are computed for the tenant of `group`.
  void Charge(const SequenceGroup& group, int32_t tokens);

  // Puts the requests in order, as if each were charged its prompt when it starts. The order stands until one
  // is added; those that leave leave it.
  void Arrange(TimePoint now);
  // By place in the order.
  SequenceGroup* operator[](int32_t place) const { return entries_[place].group; }
  void SetCause(int32_t place, WaitCause cause, TimePoint now) { SetCause(entries_[place], cause, now); }
  const Urgency& urgency(int32_t place) const { return entries_[place].urgency; }
  WaitCause cause(int32_t place) const { return entries_[place].cause; }
  // 0 for the head, -1 when the group does not wait.
  int32_t Place(const SequenceGroup* group) const;

  int32_t size() const { return static_cast<int32_t>(entries_.size()); }
  int64_t tokens() const { return tokens_; }  // of the prompts
  int32_t size(const std::string& tenant) const;
  int64_t tokens(const std::string& tenant) const;

 private:
  struct Tenant {
    double weight = 1;
    double virtual_time = 0;
    double next_tag = 0;  // while the order is made: its virtual time when its next request starts
    int32_t waiting = 0;
    int64_t tokens = 0;
  };
  struct Entry {
    SequenceGroup* group;
    Tenant* tenant;
    TimePoint since;
    int64_t number;  // of additions
    bool resumes;
    WaitCause cause = WaitCause::kNothing;
    TimePoint cause_since;
    Urgency urgency{};
    double tag = 0;
  };

  static void SetCause(Entry& entry, WaitCause cause, TimePoint now);

  const Duration ageing_;
  absl::node_hash_map<std::string, Tenant> tenants_;
  std::vector<Entry> entries_;
  bool arranged_ = true;
  TimePoint arranged_until_ = TimePoint::max();  // then somebody rises
  double virtual_time_ = 0;                      // of the tenant whose request started last
  int64_t additions_ = 0;
  int64_t tokens_ = 0;
};

}  // namespace yoio

#endif  // YOIO_ENGINE_WAITING_QUEUE_H_
