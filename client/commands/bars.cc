#include "client/commands/bars.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"

namespace yoio {
namespace {

std::string Repeated(const char* glyph, int count) {
  std::string out;
  for (int i = 0; i < count; ++i) out += glyph;
  return out;
}

// The character for a column that is filled from `from` to `to`, both 0 to 1. Blocks grow from the left; of
// those that reach to the right there are three only.
const char* Block(double from, double to) {
  if (to > 0.95 && from > 0.05) return from < 0.3 ? "█" : from < 0.75 ? "▐" : "▕";
  constexpr const char* kEighths[] = {"▏", "▏", "▎", "▍", "▌", "▋", "▊", "▉", "█"};
  return kEighths[std::clamp(static_cast<int>(std::lround((to - from) * 8)), 0, 8)];
}

std::string Blocks(double begin, double end) {
  std::string out;
  for (int column = static_cast<int>(begin); column < end; ++column) {
    const double to = std::min(end - column, 1.0);
    if (!out.empty() && to < 1.0 / 16) break;
    out += Block(std::max(begin - column, 0.0), to);
  }
  return out;
}

}  // namespace

TimeScale::TimeScale(double seconds, int columns, const Terminal& terminal)
    : axis_(AxisOver({seconds}, /*logarithmic=*/false)), columns_(columns), terminal_(terminal) {}

double TimeScale::Place(double seconds) const {
  return std::clamp(axis_.Place(seconds), 0.0, 1.0) * columns_;
}

std::string TimeScale::Labels() const {
  std::string out;
  const size_t width = columns_;
  const std::string last = SecondsLabel(axis_.ticks().back());
  for (const double tick : axis_.ticks()) {
    const std::string label = tick == 0 ? "0" : SecondsLabel(tick);
    const bool is_last = tick == axis_.ticks().back();
    const size_t place = is_last ? width - last.size() : static_cast<size_t>(Place(tick));
    const size_t room = is_last ? width : width - last.size() - 2;
    if (place < out.size() + (out.empty() ? 0 : 2) || place + label.size() > room) continue;
    out.resize(place, ' ');
    out += label;
  }
  return out;
}

std::string TimeScale::Ruler() const {
  std::string out;
  int column = 0;
  const auto add = [&](const char* unicode, const char* ascii) {
    out += terminal_.unicode ? unicode : ascii;
    ++column;
  };
  for (const double tick : axis_.ticks()) {
    const int place = std::min(static_cast<int>(Place(tick)), columns_ - 1);
    while (column < place) add("─", "-");
    if (place == 0) {
      add("├", "|");
    } else if (place == columns_ - 1) {
      add("┤", "|");
    } else {
      add("┼", "+");
    }
  }
  return Painted(out, Color::kGray, terminal_);
}

std::string TimeScale::Bar(double begin, double end, Color color) const {
  // Not past the last column, and not less than its eighth.
  const double from = std::min(Place(begin), columns_ - 1.0 / 8);
  const double to = std::max(Place(end), from + 1.0 / 8);
  const std::string before(static_cast<size_t>(from), ' ');
  if (terminal_.unicode) return absl::StrCat(before, Painted(Blocks(from, to), color, terminal_));
  const int columns = static_cast<int>(std::lround(to) - std::floor(from));
  return absl::StrCat(before, Painted(columns < 1 ? "|" : Repeated("#", columns), color, terminal_));
}

std::string TimeScale::Shade(double begin, double end, Color color) const {
  const int from = std::min(static_cast<int>(Place(begin)), columns_ - 1);
  const int columns = std::max(static_cast<int>(std::lround(Place(end))) - from, 1);
  const std::string bar = Repeated(terminal_.unicode ? "░" : ".", columns);
  return absl::StrCat(std::string(from, ' '), Painted(bar, color, terminal_));
}

std::string TimeScale::Stack(const std::vector<Segment>& segments, bool padded) const {
  std::string out;
  double seconds = 0;
  int column = 0;
  for (const Segment& segment : segments) {
    seconds += segment.seconds;
    const int end = static_cast<int>(std::lround(Place(seconds)));
    out += Painted(Repeated(segment.glyph, end - column), segment.color, terminal_);
    column = end;
  }
  if (column == 0 && seconds > 0) {
    const auto shorter = [](const Segment& a, const Segment& b) { return a.seconds < b.seconds; };
    const Segment& longest = *std::max_element(segments.begin(), segments.end(), shorter);
    out = Painted(longest.glyph, longest.color, terminal_);
    column = 1;
  }
  if (padded) out.append(columns_ - column, ' ');
  return out;
}

}  // namespace yoio
