// Tables of text.
#ifndef YOIO_CLIENT_COMMANDS_TABLE_H_
#define YOIO_CLIENT_COMMANDS_TABLE_H_

#include <string>
#include <vector>

namespace yoio {

// Columns as wide as their widest cell, two spaces apart. Cells are ASCII but for the last of a line, which
// nothing is lined up with. Not thread-safe.
class Table {
 public:
  struct Column {
    std::string name;
    bool numbers = false;  // to the right
  };

  explicit Table(std::vector<Column> columns) : columns_(std::move(columns)) {}

  // At most as many cells as there are columns.
  void Add(std::vector<std::string> line) { lines_.push_back(std::move(line)); }

  // Adds a cell to a line that is there.
  void Append(size_t line, std::string cell) { lines_[line].push_back(std::move(cell)); }

  // Columns of text that the first `columns` of them fill, the space after them included.
  int WidthOf(int columns) const;

  // The names, then the lines, each with its line break.
  std::string Text() const;

 private:
  std::vector<size_t> Widths() const;

  std::vector<Column> columns_;
  std::vector<std::vector<std::string>> lines_;
};

}  // namespace yoio

#endif  // YOIO_CLIENT_COMMANDS_TABLE_H_
