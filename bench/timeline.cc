#include "bench/timeline.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "bench/measure.h"

namespace yoio::bench {
namespace {

void Count(Totals& totals, const std::string& name, int64_t exclusive, int64_t whole) {
  Total& total = totals[name];
  ++total.count;
  total.exclusive += exclusive;
  total.whole += whole;
}

// The time that intervals cover, taken by their start.
class Union {
 public:
  // Returns what this one adds.
  int64_t Add(int64_t start, int64_t end) {
    const int64_t added = std::max<int64_t>(0, end - std::max(start, end_));
    covered_ += added;
    end_ = std::max(end_, end);
    return added;
  }
  int64_t covered() const { return covered_; }

 private:
  int64_t covered_ = 0;
  int64_t end_ = 0;
};

using Kernels = std::span<const GpuActivity>;

bool IsTopK(const GpuActivity& activity) { return absl::StrContains(activity.kernel, "TopK"); }
bool CarriesBytes(const GpuActivity& activity) {
  return absl::StrContains(activity.kernel, "Broadcast") || absl::StrContains(activity.kernel, "AllGather");
}

// Which of the step's broadcasts and all-gathers, which are the same on all ranks, carries the index, seen
// from a rank that has selected something.
std::optional<int64_t> IndexCollective(Kernels step) {
  const auto last = std::find_if(step.rbegin(), step.rend(), IsTopK).base();
  if (last == step.begin()) return std::nullopt;
  return std::count_if(step.begin(), last, CarriesBytes);
}

Kernels::iterator Nth(Kernels step, int64_t number) {
  return std::find_if(step.begin(), step.end(),
                      [&](const GpuActivity& activity) { return CarriesBytes(activity) && number-- == 0; });
}

absl::StatusOr<IndexPath> IndexPathOf(std::span<const Timeline> ranks, int step) {
  std::optional<int64_t> collective;
  int64_t selected = 0;  // when
  for (const Timeline& rank : ranks) {
    if (!collective.has_value()) collective = IndexCollective(rank.step(step));
    for (const GpuActivity& activity : rank.step(step))
      if (IsTopK(activity)) selected = std::max(selected, activity.end);
  }
  IndexPath path{.broadcast = 0, .wait = 0};
  for (const Timeline& rank : ranks) {
    const Kernels kernels = rank.step(step);
    const auto found = collective.has_value() ? Nth(kernels, *collective) : kernels.end();
    if (found == kernels.end()) return absl::NotFoundError("no collective carries the index");
    int64_t ready = found->start;  // or when what came before it ended
    for (auto before = kernels.begin(); before != found; ++before) ready = std::max(ready, before->end);
    path.broadcast = std::max(path.broadcast, found->end - selected);
    path.wait = std::max(path.wait, selected - ready);
  }
  return path;
}

}  // namespace

absl::StatusOr<Timeline> Timeline::Make(const std::vector<GpuActivity>& activities, int device, int steps) {
  Timeline line;
  line.steps_ = steps;
  auto& kernels = line.kernels_;
  for (const GpuActivity& activity : activities)
    if (activity.device == device && !activity.kernel.empty()) kernels.push_back(activity);
  if (kernels.empty() || kernels.size() % steps != 0) {
    return absl::InternalError(absl::StrCat(kernels.size(), " kernels on GPU ", device,
                                            ": not the same in each of ", steps, " steps"));
  }
  const size_t last = kernels.size() - line.kernels_per_step();  // where the last step begins
  const int64_t begin = kernels[0].start, end = kernels[last].start;
  line.span_ = end - begin;

  Union covered;
  for (size_t i = 0; i < last; ++i) {
    const GpuActivity& kernel = kernels[i];
    Count(line.by_kernel_, kernel.kernel, covered.Add(kernel.start, std::min(kernel.end, end)),
          kernel.end - kernel.start);
    const int64_t gap = std::max<int64_t>(0, kernels[i + 1].start - kernel.end);
    line.exposed_ += gap;
    if (gap > 0) Count(line.gaps_, absl::StrCat(kernel.kernel, " -> ", kernels[i + 1].kernel), gap, gap);
  }
  line.busy_ = covered.covered();

  Union with_copies;
  for (const GpuActivity& activity : activities) {
    if (activity.device != device) continue;
    with_copies.Add(std::clamp(activity.start, begin, end), std::clamp(activity.end, begin, end));
  }
  line.copying_ = with_copies.covered() - line.busy_;
  return line;
}

absl::StatusOr<IndexPath> MedianIndexPath(std::span<const Timeline> ranks) {
  std::vector<double> broadcasts, waits;
  for (int step = 0; step < ranks[0].whole_steps(); ++step) {
    YOIO_ASSIGN_OR_RETURN(const IndexPath path, IndexPathOf(ranks, step));
    broadcasts.push_back(static_cast<double>(path.broadcast));
    waits.push_back(static_cast<double>(path.wait));
  }
  return IndexPath{static_cast<int64_t>(Median(std::move(broadcasts))),
                   static_cast<int64_t>(Median(std::move(waits)))};
}

}  // namespace yoio::bench
