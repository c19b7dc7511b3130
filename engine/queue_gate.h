// Who may join the queue: how many requests and prompt tokens wait already, and whether a deadline can be
// met.
#ifndef YOIO_ENGINE_QUEUE_GATE_H_
#define YOIO_ENGINE_QUEUE_GATE_H_

#include <cstdint>
#include <map>
#include <string>

#include "absl/container/btree_set.h"
#include "absl/status/status.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "engine/request.h"
#include "engine/tenant.h"

namespace yoio {

// What a prompt that joins the queue now can expect. Made by the engine thread.
struct Forecast {
  double seconds_per_prompt_token = 0;  // as recently measured; 0: not known well enough to predict anything
  double uncached_share = 1;            // of the prompts that wait, as it was of recent ones
};

// A request lives from Enter to Leave, waits until Started, and its prompt is under way until Computed has
// said that nothing of it is left. Every answer takes the same short time, however many wait, unless a
// deadline is so near that those ahead must be counted one by one. Thread-safe.
class QueueGate {
 private:
  struct Tenant {
    TenantLimits limits;  // the newest request's
    int32_t live = 0;
    int32_t waiting = 0;
    int64_t waiting_tokens = 0;
    int32_t prompts = 0;  // waiting or under way
  };
  using Tenants = std::map<std::string, Tenant>;

 public:
  // What is known of a request before its prompt has been tokenized.
  struct Entry {
    std::string tenant;
    TenantLimits limits;
    Priority priority = Priority::kNormal;
    TimePoint due = TimePoint::max();       // the order within its class
    TimePoint deadline = TimePoint::max();  // by when its first token must come to be of any use
    int64_t tokens = 0;                     // of its prompt, possibly estimated
  };

  // A request's place, from Enter to Leave. Part of the request; touched by the gate alone.
  class Place {
   private:
    friend class QueueGate;
    Priority priority_ = Priority::kNormal;
    TimePoint due_{};
    TimePoint deadline_{};
    int64_t number_ = 0;  // of its entry
    int64_t tokens_ = 0;  // of its prompt, not computed yet
    Tenants::iterator tenant_;
    bool live_ = false;
    bool waiting_ = false;
  };

  // At most `max_requests` wait, and `max_tokens` prompt tokens with them. A request may bring more tokens
  // when nobody waits, or nobody of its tenant: it could never run otherwise.
  QueueGate(int32_t max_requests, int64_t max_tokens)
      : max_requests_(max_requests), max_tokens_(max_tokens) {}

  // RESOURCE_EXHAUSTED, TENANT_LIMIT or QUEUE_FULL, beyond a limit; DEADLINE_EXCEEDED, EXPIRED, when the
  // deadline has passed, and INFEASIBLE when the prompts ahead and its own, at half the speed of `forecast`,
  // take longer than it leaves from `now`. The place was not entered then.
  absl::Status Enter(Place& place, const Entry& entry, const Forecast& forecast, TimePoint now);
  // The prompt has been tokenized. Errors as from Enter; the place stays entered.
  absl::Status Correct(Place& place, int64_t tokens, const Forecast& forecast, TimePoint now);
  // Its first step is planned.
  void Started(Place& place);
  // So many tokens of its prompt are left to compute.
  void Computed(Place& place, int64_t tokens_left);
  // The request has ended. Nothing happens to a place that was not entered.
  void Leave(Place& place);

  struct Counts {
    int32_t live = 0;
    int32_t waiting = 0;
    int64_t waiting_tokens = 0;
  };
  Counts counts() const;

 private:
  // The order in which prompts are computed, as far as it is known here: ageing is left out.
  struct Before {
    bool operator()(const Place* a, const Place* b) const;
  };

  absl::Status CheckRequests(const Entry& entry) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Room for `tokens` more beside those of others; `place` itself counts as having none.
  absl::Status CheckTokens(const Place& place, int64_t tokens) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status CheckDeadline(const Place& place, const Forecast& forecast, TimePoint now) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Whether more than `most` tokens are computed before its first one comes.
  bool HasMoreAhead(const Place& place, double most, double uncached_share) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Add(Place& place, const Entry& entry) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Remove(Place& place) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void StopWaiting(Place& place) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void SetTokens(Place& place, int64_t tokens) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const int32_t max_requests_;
  const int64_t max_tokens_;
  mutable Mutex mutex_;
  Counts counts_ ABSL_GUARDED_BY(mutex_);
  Tenants tenants_ ABSL_GUARDED_BY(mutex_);                                // those of live requests
  absl::btree_set<const Place*, Before> prompts_ ABSL_GUARDED_BY(mutex_);  // waiting or under way
  int64_t prompt_tokens_ ABSL_GUARDED_BY(mutex_) = 0;                      // of these, not computed yet
  double weight_ ABSL_GUARDED_BY(mutex_) = 0;                              // of their tenants
  int64_t next_number_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace yoio

#endif  // YOIO_ENGINE_QUEUE_GATE_H_
