#include "client/commands/terminal.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace yoio {
namespace {

constexpr int kLeastWidth = 60;

absl::string_view Variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

// The first of the three that is set says which characters there are, as in every program of the system.
bool LocaleIsUtf8() {
  for (const char* name : {"LC_ALL", "LC_CTYPE", "LANG"}) {
    const std::string locale = absl::AsciiStrToLower(Variable(name));
    if (!locale.empty()) return absl::StrContains(locale, "utf-8") || absl::StrContains(locale, "utf8");
  }
  return false;
}

const char* CodeOf(Color color) {
  switch (color) {
    case Color::kRed:
      return "31";
    case Color::kGreen:
      return "32";
    case Color::kYellow:
      return "33";
    case Color::kBlue:
      return "34";
    case Color::kMagenta:
      return "35";
    case Color::kCyan:
      return "36";
    case Color::kGray:
      return "90";
    case Color::kNone:
      break;
  }
  return "0";
}

}  // namespace

Terminal TerminalOf(int file_descriptor, bool ascii) {
  Terminal terminal;
  terminal.unicode = !ascii && LocaleIsUtf8();
  if (!isatty(file_descriptor)) return terminal;
  winsize size{};
  if (ioctl(file_descriptor, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) {
    terminal.width = std::max<int>(size.ws_col, kLeastWidth);
  }
  terminal.color = Variable("NO_COLOR").empty() && Variable("TERM") != "dumb";
  return terminal;
}

std::string Painted(absl::string_view text, Color color, const Terminal& terminal) {
  if (!terminal.color || color == Color::kNone || text.empty()) return std::string(text);
  return absl::StrCat("\033[", CodeOf(color), "m", text, "\033[0m");
}

}  // namespace yoio
