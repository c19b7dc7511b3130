#include "client/load/measurements.h"

#include <algorithm>
#include <utility>

#include "client/error_details.h"

namespace yoio {
namespace {

constexpr auto kRelaxed = std::memory_order_relaxed;

double PerSecond(const std::atomic<int64_t>& count, double seconds) {
  return seconds > 0 ? static_cast<double>(count.load(kRelaxed)) / seconds : 0;
}

// Of the tokens after the first; zero with one token.
Duration TimePerToken(const RequestOutcome& outcome) {
  return (outcome.last_token - outcome.first_token) / std::max<int64_t>(outcome.tokens - 1, 1);
}

// Whether the server refused the request before it did any work for it.
bool IsRejected(const std::string& code, const std::string& reason) {
  return code == "RESOURCE_EXHAUSTED" || reason == "INFEASIBLE";
}

// Whether the call ended as the injection meant it to.
bool EndedAsInjected(Injection injection, const RequestOutcome& outcome) {
  switch (injection) {
    case Injection::kNone:
      return false;
    case Injection::kCancel:
      return outcome.injected && absl::IsCancelled(outcome.status);
    case Injection::kExpire:
      return absl::IsDeadlineExceeded(outcome.status);
    case Injection::kSlowReader:
      return outcome.injected && DetailsOf(outcome.status).reason == "SLOW_READER";
  }
  return false;
}

}  // namespace

Measurements::Measurements(std::vector<std::string> class_names, const Targets& targets, TimePoint start,
                           TimePoint end)
    : class_names_(std::move(class_names)), targets_(targets), start_(start), end_(end) {
  for (size_t i = 0; i < class_names_.size(); ++i) classes_.push_back(std::make_unique<Class>());
}

void Measurements::Sent(const RequestPlan& plan, TimePoint due, TimePoint sent) {
  all_sent_.fetch_add(1, kRelaxed);
  if (!InWindow(due)) return;
  classes_[plan.length_class]->sent.fetch_add(1, kRelaxed);
  injection_sent_[static_cast<int>(plan.injection)].fetch_add(1, kRelaxed);
  lateness_.Add(sent - due);
}

void Measurements::Message(const RequestPlan& plan, TimePoint due, int tokens, TimePoint now,
                           std::optional<TimePoint> last) {
  all_tokens_.fetch_add(tokens, kRelaxed);
  all_messages_.fetch_add(1, kRelaxed);
  if (InWindow(now)) {
    tokens_.fetch_add(tokens, kRelaxed);
    messages_.fetch_add(1, kRelaxed);
    if (!last) prompt_tokens_.fetch_add(plan.prompt_tokens, kRelaxed);
  }
  if (plan.injection != Injection::kNone || !InWindow(due)) return;
  Class& record = *classes_[plan.length_class];
  if (last) {
    record.itl.Add(now - *last);
  } else {
    record.ttft.Add(now - due);
  }
}

void Measurements::Ended(const RequestPlan& plan, const RequestOutcome& outcome) {
  all_ended_.fetch_add(1, kRelaxed);
  if (outcome.status.ok() && InWindow(outcome.ended)) {
    ended_in_window_.fetch_add(1, kRelaxed);
    if (IsGood(plan, outcome)) good_.fetch_add(1, kRelaxed);
  }
  if (outcome.status.ok()) {
    if (InWindow(outcome.due)) Completed(plan, outcome);
  } else {
    Failed(plan, outcome);
  }
}

bool Measurements::IsGood(const RequestPlan& plan, const RequestOutcome& outcome) const {
  const auto kept = [](Duration value, const std::optional<Duration>& target) {
    return !target || value <= *target;
  };
  return plan.injection == Injection::kNone && kept(outcome.first_token - outcome.due, targets_.ttft) &&
         kept(TimePerToken(outcome), targets_.itl) && kept(outcome.ended - outcome.due, targets_.e2e);
}

void Measurements::Completed(const RequestPlan& plan, const RequestOutcome& outcome) {
  if (outcome.tokens != plan.output_tokens) wrong_length_.fetch_add(1, kRelaxed);
  Class& record = *classes_[plan.length_class];
  record.completed.fetch_add(1, kRelaxed);
  injection_completed_[static_cast<int>(plan.injection)].fetch_add(1, kRelaxed);
  if (plan.injection != Injection::kNone) return;
  record.e2e.Add(outcome.ended - outcome.due);
  if (outcome.tokens > 1) record.tpot.Add(TimePerToken(outcome));
}

void Measurements::Failed(const RequestPlan& plan, const RequestOutcome& outcome) {
  const bool injected = EndedAsInjected(plan.injection, outcome);
  const bool cut_off = outcome.cut_off && absl::IsCancelled(outcome.status);
  if (!injected && !cut_off) all_failed_.fetch_add(1, kRelaxed);
  if (!InWindow(outcome.due)) return;
  if (injected) {
    injection_happened_[static_cast<int>(plan.injection)].fetch_add(1, kRelaxed);
  } else if (cut_off) {
    cut_off_.fetch_add(1, kRelaxed);
  } else {
    const std::string reason = DetailsOf(outcome.status).reason;
    if (IsRejected(absl::StatusCodeToString(outcome.status.code()), reason)) {
      rejected_.Add(outcome.ended - outcome.due);
    }
    CountError(outcome.status, reason);
  }
}

void Measurements::CountError(const absl::Status& status, const std::string& reason) {
  const std::string code = absl::StatusCodeToString(status.code());
  MutexLock lock(mutex_);
  ErrorCount& error = errors_[{code, reason}];
  if (error.count++ == 0) {
    error.code = code;
    error.reason = reason;
    error.message = std::string(status.message());
  }
}

Measurements::Progress Measurements::progress() const {
  Progress progress;
  progress.sent = all_sent_.load(kRelaxed);
  progress.ended = all_ended_.load(kRelaxed);
  progress.failed = all_failed_.load(kRelaxed);
  progress.tokens = all_tokens_.load(kRelaxed);
  progress.messages = all_messages_.load(kRelaxed);
  const auto all = std::make_unique<Class>();
  for (const auto& record : classes_) {
    all->ttft.Merge(record->ttft);
    all->itl.Merge(record->itl);
  }
  progress.ttft_p50 = all->ttft.Percentile(0.5);
  progress.ttft_p99 = all->ttft.Percentile(0.99);
  progress.itl_p50 = all->itl.Percentile(0.5);
  progress.itl_p99 = all->itl.Percentile(0.99);
  return progress;
}

LoadResult Measurements::Result(TimePoint end) const {
  LoadResult result;
  result.seconds = std::max(ToSeconds(std::min(end, end_) - start_), 0.0);
  const auto all = std::make_unique<Class>();
  for (size_t i = 0; i < classes_.size(); ++i) {
    const Class& record = *classes_[i];
    all->ttft.Merge(record.ttft);
    all->itl.Merge(record.itl);
    all->tpot.Merge(record.tpot);
    all->e2e.Merge(record.e2e);
    const ClassResult row = {class_names_[i],       record.sent,          record.completed,
                             record.ttft.Summary(), record.itl.Summary(), record.tpot.Summary(),
                             record.e2e.Summary()};
    result.sent += row.sent;
    result.completed += row.completed;
    result.classes.push_back(row);
  }
  result.all = {"all",
                result.sent,
                result.completed,
                all->ttft.Summary(),
                all->itl.Summary(),
                all->tpot.Summary(),
                all->e2e.Summary()};
  result.good = good_;
  result.cut_off = cut_off_;
  result.wrong_length = wrong_length_;
  result.completed_per_second = PerSecond(ended_in_window_, result.seconds);
  result.prompt_tokens_per_second = PerSecond(prompt_tokens_, result.seconds);
  result.output_tokens_per_second = PerSecond(tokens_, result.seconds);
  result.messages_per_second = PerSecond(messages_, result.seconds);
  result.good_per_second = PerSecond(good_, result.seconds);
  if (messages_ > 0) {
    result.tokens_per_message = static_cast<double>(tokens_) / static_cast<double>(messages_);
  }
  result.rejected_latency = rejected_.Summary();
  result.lateness = lateness_.Summary();
  const auto injection = [this](Injection which) {
    const int i = static_cast<int>(which);
    return InjectionCount{injection_sent_[i], injection_happened_[i], injection_completed_[i]};
  };
  result.cancels = injection(Injection::kCancel);
  result.expiries = injection(Injection::kExpire);
  result.slow_readers = injection(Injection::kSlowReader);
  MutexLock lock(mutex_);
  for (const auto& [key, error] : errors_) {
    result.errors.push_back(error);
    result.failed += error.count;
    if (IsRejected(error.code, error.reason)) {
      result.rejected += error.count;
    } else if (error.code == "DEADLINE_EXCEEDED") {
      result.expired += error.count;
    }
  }
  return result;
}

}  // namespace yoio
