// Where a prompt comes from: an argument, a file, standard input, or token ids.
#ifndef YOIO_CLIENT_COMMANDS_PROMPT_H_
#define YOIO_CLIENT_COMMANDS_PROMPT_H_

#include <CLI/CLI.hpp>
#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"

namespace yoio {

using Prompt = std::variant<std::string, std::vector<int32_t>>;

// The options that name a prompt. Lives as long as the parser.
class PromptOptions {
 public:
  // Adds TEXT and --file, and with `with_ids` --prompt-ids.
  void AddTo(CLI::App& app, bool with_ids);

  // Reads the prompt from what was named, or else from standard input unless that is a terminal. Text is
  // valid UTF-8. INVALID_ARGUMENT says what is wrong; `what_to_do` then says how to put it right.
  absl::StatusOr<Prompt> Read(std::string& what_to_do) const;

 private:
  std::string text_, file_;
  std::vector<int32_t> ids_;
  const CLI::Option* text_option_ = nullptr;
  const CLI::Option* file_option_ = nullptr;
  const CLI::Option* ids_option_ = nullptr;
};

// Puts a prompt into any request that has `text` and `token_ids`.
template <typename Request>
void SetPrompt(const Prompt& prompt, Request& request) {
  if (const auto* text = std::get_if<std::string>(&prompt)) {
    request.set_text(*text);
  } else {
    const auto& ids = std::get<std::vector<int32_t>>(prompt);
    request.mutable_token_ids()->mutable_ids()->Add(ids.begin(), ids.end());
  }
}

}  // namespace yoio

#endif  // YOIO_CLIENT_COMMANDS_PROMPT_H_
