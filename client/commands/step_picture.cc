#include "client/commands/step_picture.h"

#include <algorithm>
#include <set>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/commands/bars.h"
#include "client/commands/report.h"
#include "client/commands/seconds.h"

namespace yoio {
namespace {

struct PhaseLook {
  const char* name;
  const char* letter;
  Color color;
};

constexpr PhaseLook kPhases[] = {
    {"inputs", "i", Color::kGray},         {"self_decoder", "s", Color::kBlue},
    {"index_scores", "x", Color::kCyan},   {"top_k", "k", Color::kMagenta},
    {"index_broadcast", "b", Color::kRed}, {"cross_decoder", "c", Color::kGreen},
    {"sampling", "p", Color::kYellow},
};
constexpr PhaseLook kOther = {"other", "?", Color::kNone};

const PhaseLook& LookOf(const std::string& phase) {
  for (const PhaseLook& look : kPhases) {
    if (look.name == phase) return look;
  }
  return kOther;
}

// Those of `steps`, two lines where one is too narrow.
std::string Legend(const std::vector<const v1::StepTrace*>& steps, const Terminal& terminal) {
  std::set<std::string> seen;
  for (const v1::StepTrace* step : steps) {
    for (const v1::RankTimes& rank : step->ranks()) {
      for (const v1::PhaseTime& phase : rank.phases()) seen.insert(phase.phase());
    }
  }
  std::string out;
  int column = 0;
  for (const PhaseLook& look : kPhases) {
    if (!seen.contains(look.name)) continue;
    const std::string word = absl::StrCat(look.letter, " ", look.name);
    const bool fits = column + 2 + static_cast<int>(word.size()) <= terminal.width;
    if (column > 0) out += fits ? "  " : "\n";
    column = (column > 0 && fits ? column + 2 : 0) + static_cast<int>(word.size());
    absl::StrAppend(&out, Painted(look.letter, look.color, terminal), " ", look.name);
  }
  return out.empty() ? "" : absl::StrCat(out, "\n");
}

std::vector<const v1::StepTrace*> Chosen(const v1::RequestTrace& trace, int count) {
  std::vector<const v1::StepTrace*> steps;
  for (const v1::StepTrace& step : trace.steps()) steps.push_back(&step);
  std::stable_sort(steps.begin(), steps.end(), [](const auto* a, const auto* b) {
    return Seconds(a->duration()) > Seconds(b->duration());
  });
  const v1::Timing& timing = trace.timing();
  size_t kept = std::min<size_t>(steps.size(), count);
  const auto ended_gap = std::find_if(steps.begin() + kept, steps.end(), [&](const auto* step) {
    return timing.has_longest_gap_step() && step->step() == timing.longest_gap_step();
  });
  if (ended_gap != steps.end()) std::swap(steps[kept++], *ended_gap);
  steps.resize(kept);
  std::sort(steps.begin(), steps.end(), [](const auto* a, const auto* b) { return a->step() < b->step(); });
  return steps;
}

// "  rank 0    812 ms  sssssssbbbbccccp    self_decoder 520 ms, in collectives 300 ms"
std::string RankLine(const v1::RankTimes& rank, const TimeScale& scale, const Terminal& terminal) {
  std::vector<Segment> segments;
  const v1::PhaseTime* longest = nullptr;
  for (const v1::PhaseTime& phase : rank.phases()) {
    const PhaseLook& look = LookOf(phase.phase());
    segments.push_back({Seconds(phase.duration()), look.letter, look.color});
    if (longest == nullptr || Seconds(phase.duration()) > Seconds(longest->duration())) longest = &phase;
  }
  std::string line = absl::StrFormat("  rank %-2d %8s  ", rank.rank(), Readable(Seconds(rank.total())));
  if (longest == nullptr) return absl::StrCat(line, "not ended\n");
  absl::StrAppend(&line, scale.Stack(segments, /*padded=*/true), "  ", longest->phase(), " ",
                  Readable(Seconds(longest->duration())));
  if (rank.has_comm_wait()) {
    absl::StrAppend(&line, ", collectives ", Readable(Seconds(rank.comm_wait())));
  }
  return absl::StrCat(line, "\n");
}

// "  shared with a 512, b 1 and 3 more": as many as the width takes, those with most tokens first.
std::string Sharers(const v1::StepTrace& step, const std::string& own_id, int width) {
  std::vector<const v1::StepMember*> others;
  for (const v1::StepMember& member : step.members()) {
    if (member.request_id() != own_id) others.push_back(&member);
  }
  std::stable_sort(others.begin(), others.end(),
                   [](const auto* a, const auto* b) { return a->tokens() > b->tokens(); });
  constexpr size_t kRoomForTheRest = 16;
  std::string line;
  size_t shown = 0;
  for (; shown < others.size(); ++shown) {
    const v1::StepMember& member = *others[shown];
    const std::string name = member.request_id().empty() ? "(forgotten)" : member.request_id();
    const std::string more = absl::StrCat(shown == 0 ? "  shared with " : ", ", name, " ",
                                          Grouped(member.tokens()), shown == 0 ? " tokens" : "");
    if (shown > 0 && line.size() + more.size() + kRoomForTheRest > static_cast<size_t>(width)) break;
    line += more;
  }
  const int64_t rest = std::max<int64_t>(step.batch_requests() - 1, others.size()) - shown;
  if (rest > 0 && line.empty()) return absl::StrCat("  shared with ", Grouped(rest), " no longer known\n");
  if (rest > 0) absl::StrAppend(&line, " and ", Grouped(rest), " more");
  return line.empty() ? "  shared with none\n" : absl::StrCat(line, "\n");
}

std::string StepBlock(const v1::RequestTrace& trace, const v1::StepTrace& step, const TimeScale& scale,
                      const Terminal& terminal) {
  const v1::Timing& timing = trace.timing();
  const bool ended_gap = timing.has_longest_gap_step() && timing.longest_gap_step() == step.step();
  std::string out =
      absl::StrCat("step ", Grouped(step.step()), ": ", Readable(Seconds(step.duration())), ", ",
                   Readable(SecondsBetween(trace.arrival(), step.start())), " after arrival",
                   ended_gap ? Painted("  <- ended the longest gap", Color::kRed, terminal) : "", "\n");
  absl::StrAppend(&out, "  tokens ", Grouped(step.batch_tokens()), ", of prompts ",
                  Grouped(step.prompt_tokens()), ", its own ", Grouped(step.tokens()), "; requests waiting ",
                  Grouped(step.waiting()), "; free blocks ", Grouped(step.free_blocks()), "\n");
  for (const v1::RankTimes& rank : step.ranks()) out += RankLine(rank, scale, terminal);
  return out + Sharers(step, trace.request_id(), terminal.width);
}

}  // namespace

std::string SlowestSteps(const v1::RequestTrace& trace, int count, const Terminal& terminal) {
  const std::vector<const v1::StepTrace*> steps = Chosen(trace, count);
  if (steps.empty()) return "";
  double longest = 0;
  for (const v1::StepTrace* step : steps) {
    for (const v1::RankTimes& rank : step->ranks()) longest = std::max(longest, Seconds(rank.total()));
  }
  constexpr int kColumnsBesideBar = 58;
  const int columns = std::max(terminal.width - kColumnsBesideBar, 20);
  const TimeScale scale(longest, columns, terminal);
  std::string out = absl::StrCat("the slowest ", steps.size(), " of ", trace.steps_size(),
                                 " steps, a bar for each rank\n", Legend(steps, terminal));
  for (const v1::StepTrace* step : steps) {
    absl::StrAppend(&out, "\n", StepBlock(trace, *step, scale, terminal));
  }
  return out;
}

}  // namespace yoio
