#include "client/commands/table.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace yoio {
namespace {

constexpr int kGap = 2;

}  // namespace

std::vector<size_t> Table::Widths() const {
  std::vector<size_t> widths;
  for (const Column& column : columns_) widths.push_back(column.name.size());
  for (const auto& line : lines_) {
    for (size_t i = 0; i < line.size(); ++i) widths[i] = std::max(widths[i], line[i].size());
  }
  return widths;
}

int Table::WidthOf(int columns) const {
  const std::vector<size_t> widths = Widths();
  int sum = 0;
  for (int i = 0; i < columns; ++i) sum += static_cast<int>(widths[i]) + kGap;
  return sum;
}

std::string Table::Text() const {
  const std::vector<size_t> widths = Widths();
  std::string out;
  const auto add = [&](const std::vector<std::string>& line) {
    size_t end = line.size();
    while (end > 0 && line[end - 1].empty()) --end;
    for (size_t i = 0; i < end; ++i) {
      const bool padded = columns_[i].numbers || i + 1 < end;
      const std::string padding(padded && line[i].size() < widths[i] ? widths[i] - line[i].size() : 0, ' ');
      absl::StrAppend(&out, i > 0 ? std::string(kGap, ' ') : "", columns_[i].numbers ? padding : "", line[i],
                      columns_[i].numbers ? "" : padding);
    }
    out += '\n';
  };
  std::vector<std::string> names;
  for (const Column& column : columns_) names.push_back(column.name);
  add(names);
  for (const auto& line : lines_) add(line);
  return out;
}

}  // namespace yoio
