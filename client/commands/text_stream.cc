#include "client/commands/text_stream.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

namespace yoio {

TextStream::TextStream(int choices, std::function<void(absl::string_view)> write)
    : write_(std::move(write)), choices_(std::max(choices, 1)) {}

void TextStream::Add(const v1::Delta& delta) {
  const size_t choice = delta.choice();
  if (choice >= choices_.size()) return;
  choices_[choice].waiting += delta.text();
  if (choice == current_) Advance();
}

void TextStream::Add(const v1::Finished& finished) {
  const size_t choice = finished.choice();
  if (choice >= choices_.size()) return;
  choices_[choice].finished = true;
  if (choice == current_) Advance();
}

void TextStream::Flush() {
  for (; current_ < choices_.size(); ++current_) {
    const std::string waiting = std::exchange(choices_[current_].waiting, {});
    if (!waiting.empty()) Write(waiting);
    EndChoice();
  }
}

void TextStream::Advance() {
  for (; current_ < choices_.size(); ++current_) {
    Choice& choice = choices_[current_];
    Write(std::exchange(choice.waiting, {}));
    if (!choice.finished) return;
    EndChoice();
  }
}

void TextStream::Write(absl::string_view text) {
  if (choices_.size() > 1 && !heading_written_) {
    write_(absl::StrCat("--- choice ", current_, " ---\n"));
    heading_written_ = true;
  }
  if (text.empty()) return;
  write_(text);
  line_open_ = text.back() != '\n';
}

void TextStream::EndChoice() {
  if (line_open_) write_("\n");
  line_open_ = false;
  heading_written_ = false;
}

}  // namespace yoio
