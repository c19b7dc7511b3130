#include "client/commands/prompt.h"

#include <unistd.h>

#include <cstdio>

#include "absl/strings/str_cat.h"
#include "client/read_file.h"

namespace yoio {
namespace {

// The length of the UTF-8 character that `bytes` begins with, or 0 if there is none: overlong forms,
// surrogates and values past U+10FFFF are none.
size_t CharacterLength(std::string_view bytes) {
  const auto at = [&](size_t i) { return static_cast<unsigned char>(bytes[i]); };
  const unsigned char first = at(0);
  if (first < 0x80) return 1;
  const size_t length = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
  if (first < 0xC2 || first > 0xF4 || bytes.size() < length) return 0;
  for (size_t i = 1; i < length; ++i) {
    if ((at(i) & 0xC0) != 0x80) return 0;
  }
  const bool wrong = (first == 0xE0 && at(1) < 0xA0) || (first == 0xED && at(1) > 0x9F) ||
                     (first == 0xF0 && at(1) < 0x90) || (first == 0xF4 && at(1) > 0x8F);
  return wrong ? 0 : length;
}

// The offset of the first byte that is no UTF-8, or npos.
size_t FindInvalidUtf8(std::string_view text) {
  for (size_t at = 0; at < text.size();) {
    const size_t length = CharacterLength(text.substr(at));
    if (length == 0) return at;
    at += length;
  }
  return std::string_view::npos;
}

}  // namespace

void PromptOptions::AddTo(CLI::App& app, bool with_ids) {
  text_option_ =
      app.add_option("text", text_, "The prompt; else --file, else standard input")->type_name("TEXT");
  file_option_ = app.add_option("--file,-f", file_, "Read the prompt from this file; - is standard input")
                     ->type_name("FILE");
  if (with_ids) {
    ids_option_ = app.add_option("--prompt-ids", ids_, "The prompt as token ids")
                      ->delimiter(',')
                      ->allow_extra_args(false)
                      ->type_name("ID,ID,...");
  }
}

absl::StatusOr<Prompt> PromptOptions::Read(std::string& what_to_do) const {
  const bool has_ids = ids_option_ != nullptr && ids_option_->count() > 0;
  const int sources = (text_option_->count() > 0) + (file_option_->count() > 0) + has_ids;
  what_to_do = "Give the prompt once: as an argument, by --file, or on standard input.";
  if (sources > 1) return absl::InvalidArgumentError("the prompt was given more than once");
  if (has_ids) return ids_;

  std::string name = "the prompt";
  absl::StatusOr<std::string> text = text_;
  if (file_option_->count() > 0 && file_ != "-") {
    what_to_do = "Name a file that exists and can be read.";
    name = file_;
    text = ReadFile(file_);
  } else if (text_option_->count() == 0) {
    if (file_ != "-" && isatty(STDIN_FILENO)) return absl::InvalidArgumentError("there is no prompt");
    name = "standard input";
    text = ReadAll(stdin, name);
  }
  if (!text.ok()) return text.status();

  if (const size_t at = FindInvalidUtf8(*text); at != std::string::npos) {
    what_to_do = "Convert it to UTF-8 first, for instance with iconv.";
    return absl::InvalidArgumentError(absl::StrCat(name, " is not UTF-8: byte ", at, " is wrong"));
  }
  return *std::move(text);
}

}  // namespace yoio
