#include "engine/watchdog.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "base/check.h"

namespace yoio {

Watchdog::Watchdog(const WatchdogOptions& options) : options_(options), ended_(options.num_ranks, -1) {
  thread_ = std::thread([this] { Run(); });
}

void Watchdog::Stop() {
  {
    MutexLock lock(mutex_);
    stopped_ = true;
    stop_.NotifyAll();
  }
  if (thread_.joinable()) thread_.join();
}

void Watchdog::Submitted(int64_t step) {
  MutexLock lock(mutex_);
  under_way_.push_back({step, Clock::now()});
}

void Watchdog::Ended(int rank, int64_t step) {
  const int index = rank - options_.first_rank;
  YOIO_CHECK(index >= 0 && index < options_.num_ranks) << "rank " << rank;
  MutexLock lock(mutex_);
  ended_[index] = std::max(ended_[index], step);
  const int64_t ended_by_all = *std::min_element(ended_.begin(), ended_.end());
  while (!under_way_.empty() && under_way_.front().number <= ended_by_all) {
    under_way_.pop_front();
    last_end_ = Clock::now();
  }
}

void Watchdog::Run() {
  if (std::optional<absl::Status> late = AwaitLate()) options_.on_late(*std::move(late));
}

// Sleeps from look to look. What is submitted meanwhile is due later than the next look, so that nobody needs
// to wake this thread but for the end.
std::optional<absl::Status> Watchdog::AwaitLate() {
  MutexLock lock(mutex_);
  while (!stopped_) {
    const TimePoint now = Clock::now();
    TimePoint next_look = now + options_.timeout;
    if (!under_way_.empty()) {
      next_look = std::max(under_way_.front().submitted, last_end_) + options_.timeout;
      if (now >= next_look) return Evidence();
    }
    stop_.WaitUntil(mutex_, next_look);
  }
  return std::nullopt;
}

RankState Watchdog::StateOf(int index) const {
  const int rank = options_.first_rank + index;
  RankState state{.rank = rank};
  if (options_.look) state = options_.look(rank).value_or(state);
  state.ended_step = ended_[index];
  return state;
}

std::vector<RankState> Watchdog::Ranks() const {
  MutexLock lock(mutex_);
  std::vector<RankState> ranks;
  for (int index = 0; index < options_.num_ranks; ++index) ranks.push_back(StateOf(index));
  return ranks;
}

absl::Status Watchdog::Evidence() const {
  std::string ranks;
  for (int index = 0; index < options_.num_ranks; ++index) {
    const RankState state = StateOf(index);
    absl::StrAppend(&ranks, index > 0 ? "; " : "", "rank ", state.rank, " of node ",
                    state.rank / options_.ranks_per_node, " has ended ");
    absl::StrAppend(&ranks,
                    state.ended_step < 0 ? std::string("no step") : absl::StrCat("step ", state.ended_step));
    if (state.step > state.ended_step) {
      absl::StrAppend(&ranks, ", is in ", std::string(NameOf(state.phase)), " of step ", state.step);
    }
    if (state.collective != Collective::kNone) {
      absl::StrAppend(&ranks, ", waits in ", std::string(NameOf(state.collective)));
    }
  }
  return absl::DeadlineExceededError(absl::StrCat("step ", under_way_.front().number,
                                                  " has taken longer than ", ToSeconds(options_.timeout),
                                                  " s (--step-timeout): ", ranks));
}

}  // namespace yoio
