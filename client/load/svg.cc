#include "client/load/svg.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"

namespace yoio {
namespace {

constexpr char kLight[] = R"(  svg { background: #ffffff; font: 13px system-ui, sans-serif; }
  text { fill: #333333; }
  .title { font-size: 17px; font-weight: 600; }
  .name { font-size: 14px; font-weight: 600; }
  .grid { stroke: #e3e3e3; }
  .frame { stroke: #888888; fill: none; }
)";
constexpr char kDark[] = R"(    svg { background: #16181c; }
    text { fill: #d8d8d8; }
    .grid { stroke: #2e3238; }
)";

std::string Escaped(const std::string& text) {
  return absl::StrReplaceAll(text, {{"&", "&amp;"}, {"<", "&lt;"}, {">", "&gt;"}, {"\"", "&quot;"}});
}

}  // namespace

std::string SvgStart(double width, double height, const std::string& light, const std::string& dark) {
  const std::string start = absl::StrFormat(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %.0f %.0f\" width=\"%.0f\" height=\"%.0f\">\n",
      width, height, width, height);
  return absl::StrCat(start, "<style>\n", kLight, light, "  @media (prefers-color-scheme: dark) {\n", kDark,
                      dark, "  }\n</style>\n");
}

void AddText(std::string& svg, double x, double y, const char* anchor, const char* style,
             const std::string& text) {
  absl::StrAppendFormat(&svg, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\" class=\"%s\">%s</text>\n", x, y,
                        anchor, style, Escaped(text));
}

void AddLine(std::string& svg, double x1, double y1, double x2, double y2, const std::string& style) {
  absl::StrAppendFormat(&svg, "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" class=\"%s\"/>\n", x1,
                        y1, x2, y2, style);
}

void AddRect(std::string& svg, double x, double y, double width, double height, const std::string& style,
             const std::string& tip) {
  absl::StrAppendFormat(&svg, "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" class=\"%s\"", x, y,
                        width, height, style);
  absl::StrAppend(&svg, tip.empty() ? "/>\n" : absl::StrCat("><title>", Escaped(tip), "</title></rect>\n"));
}

}  // namespace yoio
