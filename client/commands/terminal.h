// What a terminal can show.
#ifndef YOIO_CLIENT_COMMANDS_TERMINAL_H_
#define YOIO_CLIENT_COMMANDS_TERMINAL_H_

#include <string>

#include "absl/strings/string_view.h"

namespace yoio {

// What pictures are drawn for; without more said, a plain file.
struct Terminal {
  int width = 80;  // columns
  bool unicode = true;
  bool color = false;
};

// That of `file_descriptor`: its width if it is one, Unicode if the locale of the environment is UTF-8 and
// `ascii` is not asked for, colors if it is one and NO_COLOR is not set.
Terminal TerminalOf(int file_descriptor, bool ascii);

enum class Color { kNone, kRed, kGreen, kYellow, kBlue, kMagenta, kCyan, kGray };

// `text` in that color, where `terminal` shows colors.
std::string Painted(absl::string_view text, Color color, const Terminal& terminal);

}  // namespace yoio

#endif  // YOIO_CLIENT_COMMANDS_TERMINAL_H_
