// What drawings as SVG are made of.
#ifndef YOIO_CLIENT_LOAD_SVG_H_
#define YOIO_CLIENT_LOAD_SVG_H_

#include <string>

namespace yoio {

// The start of a document of `width` by `height` that is readable on light and on dark ground: it follows the
// reader's colour scheme. `light` and `dark` are further style rules. Ends with `</svg>`, which the caller
// adds.
std::string SvgStart(double width, double height, const std::string& light, const std::string& dark);

// `anchor` is "start", "middle" or "end" of the text, where (x, y) is; `style` are names of classes: those
// of SvgStart are "title", "name", "grid" and "frame".
void AddText(std::string& svg, double x, double y, const char* anchor, const char* style,
             const std::string& text);
void AddLine(std::string& svg, double x1, double y1, double x2, double y2, const std::string& style);
// `tip` is shown under the pointer; empty: none.
void AddRect(std::string& svg, double x, double y, double width, double height, const std::string& style,
             const std::string& tip = "");

}  // namespace yoio

#endif  // YOIO_CLIENT_LOAD_SVG_H_
