// Time as bars of characters.
#ifndef YOIO_CLIENT_COMMANDS_BARS_H_
#define YOIO_CLIENT_COMMANDS_BARS_H_

#include <string>
#include <vector>

#include "client/commands/terminal.h"
#include "client/load/axis.h"

namespace yoio {

// A part of a bar that is made of several.
struct Segment {
  double seconds = 0;
  const char* glyph = "";  // one character, repeated
  Color color = Color::kNone;
};

// An axis of time from 0 on, laid over columns, and the bars along it. Immutable.
class TimeScale {
 public:
  // Its last tick is the first round number that is not below `seconds`. `columns` is at least 10.
  TimeScale(double seconds, int columns, const Terminal& terminal);

  // "0      0.5 s    1 s": each at its place, those left out that would not fit.
  std::string Labels() const;
  // The line under them, with a mark at each tick.
  std::string Ruler() const;

  // A bar, the spaces before it included. Where Unicode is shown its ends are true to an eighth of a column
  // or so. Never empty: what is too short for it is a thin line.
  std::string Bar(double begin, double end, Color color) const;
  // Likewise in a lighter shade, for what is known to be so long, but not when it was.
  std::string Shade(double begin, double end, Color color) const;
  // From 0 on, segment after segment, each as long as the rounding of its ends makes it; those that are
  // rounded away are not shown. At least one column, that of the longest, unless all are 0. `padded` fills
  // the columns up.
  std::string Stack(const std::vector<Segment>& segments, bool padded = false) const;

 private:
  // Where in the columns, from 0 to columns_.
  double Place(double seconds) const;

  const Axis axis_;
  const int columns_;
  const Terminal terminal_;
};

}  // namespace yoio

#endif  // YOIO_CLIENT_COMMANDS_BARS_H_
